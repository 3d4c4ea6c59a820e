"""The only HTTP caller of an Authnode: tickets, administration, a ticket cache.

Top may import below:

    admin | cache
    tickets
    authnode            one Authnode behind several endpoints: failover, retries, a fresh verifier each
    transport           one POST to one endpoint, bounded in time and size
    retry | endpoints | tls | replies | observer
    errors

`now` and chance come in as a Clock and an Entropy; retry, endpoints and
replies are pure. Nothing here puts a key, a ticket, a session key or a
verifier into an error or a log line.
"""
