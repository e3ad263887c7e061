"""What arrives and what leaves as events: intake of connector streams, agreement, delivery.

`intake`, `chain` and `peers` take what connectors tell; `downloads` fetches broadcast batches and
blobs; `aggregator` drives agreement; `subscriptions` and `delivery` serve applications; `waiting`
lets a request wait for its outcome.
"""
