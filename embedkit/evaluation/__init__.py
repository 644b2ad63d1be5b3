"""Scores to a report: metrics, intervals, significance."""
