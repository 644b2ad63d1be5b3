"""What several tests share: tiny models, oracles, runs of the command line."""
