"""Sans-IO machines: inputs in, decisions out. No clock, no await, no I/O; imports only `model`.

=== The machines

| Module           | Decides                                                                  |
|------------------|--------------------------------------------------------------------------|
| `agreement`      | for every pin on chain: confirm, reject, void, or what it waits for      |
| `batching`       | when a batch is cut, its content, dispatch order, retry, cancelling      |
| `nonces`         | the private pins of a batch at seal                                      |
| `delivery`       | which events a connection gets next, where its subscription's offset is  |
| `leadership`     | when this replica leads                                                  |
| `session_time`   | how long it may be sure of that, by its own clock                        |
| `spreading`      | which replica is preferred for a role, when a leader makes room for it   |
| `connector_life` | when a connector is dialled, configured, pinged, restarted, given up     |

=== How to drive `Agreement` (one machine per namespace, one owner task)

    machine = Agreement(final_events={0: Position(...)}, masked_complete=False)

    # take-over: what the database holds, in chain order
    machine.pins_arrived(undispatched unmasked pins + undispatched masked pins whose batch is stored
                         + undecided network actions, at=now)
    # then, and after every input, until nothing is wanted:
    while wanted := machine.wanted():
        machine.batch_available(stored batches among wanted.batches)
        machine.contexts_loaded(next-pin rows of wanted.contexts; all of them, empty ones too)
        machine.pins_found(wanted.pin_hashes, undispatched masked events that carry one)

    # inputs, as they commit to the database (wake-up rows)
    machine.pins_arrived(events, at)             # in chain order, repeated ones are ignored
    machine.batch_available([BatchFacts, ...], at)
    machine.blob_available(data_id, blob_hash, at)
    machine.need_met(need, at) / machine.need_failed(need, reason, at)
    machine.group_available(group_hash, member_dids, at)

    # decide, in the order to commit; `limit` bounds a transaction
    decisions = machine.decide(view, limit=500)
    # -> [MessageDecision | BatchVoided | ActionDecision]; commit all of them in one transaction,
    #    together with what the view applied. If it fails: throw machine and view away, rebuild.

Loop: inputs -> (wanted -> answers -> decide) until `wanted()` is empty and `decide()` returned
[]. Everything else waits; `explain(message_id)`, `explain_batch(batch_id)` and `waiting()` say
for what.

Only those masked pins stay in memory that matter, or that are few: for a private batch that
`machine.knows(key)` denies, its stored undispatched pins go to `pins_arrived` right before its
facts to `batch_available`. `masked_complete=False` says that masked pins whose batch is not
stored were left out at take-over; the machine then asks for them by hash.

Rules for the driver:

1. Facts (`BatchFacts`, next pins, view data) are read after the last commit of decisions, by the
   one owner task.
2. A need that is met between reading facts and handing them over is told by its wake-up row,
   which comes after.
3. `pins_arrived` is called in chain order per contract; a newer contract's after the older one's
   final event.
4. Reorganisations: if all pin rows of a removed event are undispatched, delete them and rebuild;
   otherwise the namespace halts for an operator.
5. `BatchFacts` go in only for content that recomputes to the hash the key names.

`view` is a `DefinitionView` (module `view`): five questions, answered from memory. Signers,
authors, references, order, repeats, nonces and contexts are the machine's business; whether a
definition or a value is good is the view's (`judge`).
"""
