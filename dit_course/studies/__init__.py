"""Measurements that take their time: what the lessons' numbers come from."""
