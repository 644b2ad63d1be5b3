"""Damaged and hostile folders, kills, full disks."""
