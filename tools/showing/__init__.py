"""Text, histograms, and the original audio of clips."""
