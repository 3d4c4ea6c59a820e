"""`cubeauth authnode`: the server, copies of its keystore, and the way over from a stock Authnode.

    command    the command line: run, backup, restore, import
    importing  keys of another Authnode, read by its own API, into a keystore that no Authnode uses

cubeauth_authnode is imported when a command runs: it needs more than the command line does.
"""
