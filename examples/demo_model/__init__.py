"""The embedded demo model: the tasks it learns, how it is trained and how it is measured."""
