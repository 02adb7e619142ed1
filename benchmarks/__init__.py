"""What the performance tables are made with; `plait bench NAME` runs one."""
