"""Training of TASTE-simplified: text tokens that carry their speech, made from a run's features (docs/taste.md).

Networks are in the modules that import torch at once: stack, language_model, aggregator, model. Commands import those only
when they begin to work.
"""
