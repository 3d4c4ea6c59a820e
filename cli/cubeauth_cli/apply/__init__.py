"""`cubeauth apply`: manifests to keys, capabilities and key files, without Kubernetes.

    command          the command line, and one run from start to end
    act              does what was decided, key by key
    observe          asks the Authnode, and compares the key files
    journal          what was made here, on disk before it is used
    folder           the key folder: its lock, its files
    manifest_files   where manifests are read from
    report           what is told, as text and as one document

What has to be done is decided by cubeauth_resources, which the operator uses
too; here is only what touches the world before and after.
"""
