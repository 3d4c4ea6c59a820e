"""The `cubeauth` command line.

main       the entry: argv in, exit status out; imports nothing that may be missing
endings    how a command ends: an error is one line and status 1, never a traceback
app        the click group; a command's module is imported when the command is used
commands   the table of commands: add a line here, and a module beside it
console    the one home of output
"""
