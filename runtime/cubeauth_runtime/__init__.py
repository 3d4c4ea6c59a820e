"""What every cubeauth process needs from the operating system.

Clock, owned tasks, files, documents, logs, audit lines, and the metrics and
health port.

Not in the first plan: authnode, sidecar and cli may not import each other,
and each would have had its own copy (docs/architecture.md says more).
"""
