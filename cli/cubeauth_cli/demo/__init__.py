"""`cubeauth demo`: the whole of it on one machine, with real processes, step by step, in half a minute.

command     the command line
hints       what can be done with what is left running
stage       folder, keys, configurations, processes
attempts    what a client does with a ticket, a good one or a bad one
tamper      somebody in the middle who flips a bit
scenes      the steps: what is done, and how it must end
programme   the scenes in their order, and what they found
show        what a person sees
keeper      who takes everything away when the demo is killed (a process of its own)
service     the small TCP service behind the sidecar (a process of its own)
"""
