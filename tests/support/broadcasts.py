"""Controllers that make their rounds known, and what one round would make known."""

from __future__ import annotations

import json
from typing import Any

from hpc.broadcast import Broadcast
from hpc.controller import Controller, Round
from hpc.event_hooks import Hooks
from hpc.events import Event, RoundDone, Said
from hpc.evidence import View
from hpc.monitor import take_snapshot
from hpc.new_events import Facts, new_events
from hpc.run import RunState
from support.fake_cluster import HOST, Campaign

__all__ = ["Told", "broadcast", "events_of", "telling"]


def broadcast(campaign: Campaign, **settings: Any) -> Broadcast:
    """By the campaign's clock, without the hooks of this machine's packages."""
    usual = {"host": HOST, "hooks": Hooks(list), "clock": campaign.clock, "monotonic": campaign.clock}
    return Broadcast(campaign.run, **{**usual, **settings})


def telling(campaign: Campaign, **settings: Any) -> Controller:
    """A controller that knows nothing but the files and makes its rounds known."""
    tell = broadcast(campaign, **settings).tell
    return Controller(campaign.run, campaign.cluster, campaign.launch, host=HOST, clock=campaign.clock, tell=tell)


def events_of(campaign: Campaign) -> list[dict[str, Any]]:
    """What the run's events.jsonl has."""
    return [json.loads(line) for line in campaign.run.events_file.read_text(encoding="utf-8").splitlines()]


class Told:
    """The first round of a campaign, which submits, without a file."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.rounds: list[tuple[Round, RunState, list[View]]] = []
        controller = Controller(
            campaign.run,
            campaign.cluster,
            campaign.launch,
            host=HOST,
            clock=campaign.clock,
            tell=lambda seen, state, views: self.rounds.append((seen, state, list(views))),
        )
        controller.round()

    def facts(self, **changes: Any) -> Facts:
        """What it knows; `sent` is left out, as in a later round."""
        seen, state, views = self.rounds[-1]
        usual = {
            "run": state.run_id,
            "output_dir": str(self.campaign.run.output_dir),
            "host": HOST,
            "now": self.campaign.clock.now,
            "amnesty": state.amnesty,
            "decision": seen.decision,
            "states": seen.states,
            "views": views,
            "sent": {},
            "figures": take_snapshot(seen),
            "seconds": 0.5,
            "scan_seconds": 0.25,
        }
        return Facts(**{**usual, **changes})

    def said(self) -> Said:
        """What a file has that says all of it."""
        events: list[Event] = new_events(self.facts(), Said())
        rounds = [event for event in events if isinstance(event, RoundDone)]
        ids = {event.id for event in events}
        return Said(ids=ids, runs=1, rounds=len(rounds), last_run="run_started", last_round=rounds[-1])
