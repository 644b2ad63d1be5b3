"""How fast embedkit and its peers encode on this machine."""
