"""Measurements that a person starts: what an organism knows, and how fast the engines are beside their references."""
