"""What members define for each other by messages: identities and datatypes.

`payloads` reads and writes FireFly's JSON, `rules` says what a well-formed identity is, `content`
what a message refers to, `memory` what is defined so far; `view` decides which definitions take
effect and is what agreement asks. Nothing here does I/O.
"""
