"""AuthKey and Capability as values, and what has to be done about them: observe, decide, act, with only `decide` in here.

    manifests   documents -> Desired        what people asked for, checked across documents
    observed    answers   -> Observed       what a caller saw at the Authnode and of its key files
    claims      journal   -> Claims         what earlier runs made, so that nothing else is ever touched
    decide      all three -> Decision       ordered actions with reasons, problems, notices

`cubeauth apply` (key files, bare metal) and the Kubernetes operator (Secrets)
are two callers of this one set of decisions. Everything here is pure: parsing
YAML, asking the Authnode and writing files is the caller's.
"""
