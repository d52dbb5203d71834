"""What tools.show is made of: words, histograms, and the original to hear."""
