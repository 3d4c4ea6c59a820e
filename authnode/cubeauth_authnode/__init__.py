"""The Authnode: keystore and ticket service.

    app > supervisor, worker > http > tickets, admin > directory, replay, audit > keystore.base

One parent process owns the keystore, its lock and every write, and answers
admin requests. Workers hold a copy of the keys in memory and answer ticket
requests; before each reply they look at a counter in shared memory that the
parent moves with every write, so that what is deleted is dead at once.
"""
