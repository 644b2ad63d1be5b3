"""Heads: from two sentence vectors to a score on the labels' scale."""

HEAD = "head.json"  # the file that makes a folder one of a head
