"""The sidecar: tickets and handshakes for processes that know nothing of either.

Top may import below:

    app                 configuration to a running process, and its end
    server              listeners, admission limits, drain
    connection          one connection: sockets driven by a relay; deadlines, back-pressure
    socket_end          one socket of it
    journal             what is worth telling, as metrics, audit lines and log lines
    listeners           a configured entry, ready to make relays
    credentials         our key, our tickets, and whether the Authnode answers us
    relay_accepting | relay_connecting
    relay_tcp           one connection without I/O: events in, commands out
    commands
    events
    config | metrics

The relays know neither asyncio nor sockets; what drives them knows nothing of
the protocol. Relays for HTTP and UDP will stand beside these, and other ways
to choose where a connection goes beside `listeners`.
"""
