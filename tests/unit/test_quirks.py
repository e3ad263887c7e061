"""Goal: what FireFly does oddly is copied or mended knowingly, and stays so.

Method: one row for each oddity of FireFly that is known, in this order: those of its API, then what a running one was
seen to do. Each says what we do and names the test that proves it; the tests must exist. What concerns contracts and
tokens comes with them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

TESTS: Final = Path(__file__).resolve().parents[1]
GATEWAY: Final = TESTS.parent / "gateway" / "internal"
RECORDED: Final = "e2e/test_recorded_requests.py::test_what_was_recorded_happens_again"
BAD_BODY: Final = "e2e/test_bad_input.py::test_bad_body"
BAD_PATH: Final = "e2e/test_bad_input.py::test_bad_path"
WRONG_QUERIES: Final = "unit/model/test_query.py::test_wrong_queries"

API: Final = {
    "`//` in a path answers 301": (
        "copied",
        "server/requests_test.go::TestUncleanPathsAreRedirected",
        "e2e/test_ui_requests.py::test_a_list_shows_what_the_ui_reads",
    ),
    "unknown query parameters and sort fields are ignored": (
        "copied",
        "e2e/test_queries.py::test_parameters_that_are_no_fields_are_ignored",
    ),
    "POST without Content-Type is 415, even with no body": (
        "copied",
        "server/requests_test.go::TestContentTypesWithoutABody",
        "e2e/test_bad_input.py::test_wrong_content_type",
    ),
    "`limit=0` and `limit=abc` switch the limit off": (
        "mended",
        "unit/model/test_query.py::test_paging_and_count",
        WRONG_QUERIES,
    ),
    "`skip` and `limit` share one key": (
        "copied, with a key more",
        "unit/app/test_config_rules.py::test_how_far_a_list_can_be_skipped_has_a_key_of_its_own",
    ),
    "`ascending` and `descending` do nothing without `sort`": (
        "copied",
        "unit/model/test_query.py::test_sorting",
        "e2e/test_queries.py::test_parameters_that_are_no_fields_are_ignored",
    ),
    "`!:@x` is built as does not start with": (
        "mended",
        "integration/store/test_filters.py::test_sql_selects_what_the_filter_says",
    ),
    "GET of an unknown DID is 500": ("mended", BAD_PATH, RECORDED),
    "sockets with a URL start, uploads and documents skip authorization": (
        "mended",
        "server/access_test.go::TestNothingIsServedToStrangers",
        "server/access_test.go::TestSocketsOfStrangersAreRefusedBeforeTheyOpen",
    ),
    "webhook failures are acked and gone": (
        "copied, with an option",
        "e2e/test_webhooks.py::test_what_a_webhook_does_not_take_is_parked",
    ),
    "`autometa` stores the part's Content-Disposition": (
        "mended",
        "unit/data/test_data_service.py::test_the_value_beside_an_upload",
    ),
    "`blockchainAcountId` in DID documents": (
        "copied",
        "unit/identity/test_diddocs.py::test_documents_are_the_recorded_ones",
    ),
    "`POST network/organizations` answers with the request": ("copied", RECORDED),
    "the OpenAPI document has wrong schemas": (
        "mended, with FireFly's ids",
        "unit/rpc/test_routes.py::test_route_is_fireflys",
        "unit/test_quirks.py::test_lists_are_lists_in_the_document",
        "e2e/test_schemathesis.py::test_a_member_answers_as_its_document_says",
    ),
    "namespaced `.yaml` documents are JSON": ("mended", "server/docs_test.go::TestDocuments"),
    "`spi/v1/namespaces/{ns}/operations` reads the default namespace": (
        "mended",
        "integration/spi/test_spi.py::test_operations_are_those_of_the_namespace_named",
    ),
    "the status of unpinned transactions and network actions is 400": (
        "mended",
        "unit/operations/test_operations.py::test_transactions_of_every_type_have_a_status",
    ),
    "PATCH of an identity demands `profile` and carries its old id over": ("copied", RECORDED),
    "routes without a mode reach managers that are absent": (
        "mended",
        "e2e/test_namespaces.py::test_what_needs_a_network_is_refused_in_gateway_mode",
    ),
    "`status.multiparty.contract` beside `status/multiparty.contracts`": ("copied", RECORDED),
    "namespaces are listed in random order": (
        "mended",
        "unit/namespaces/test_node.py::test_namespaces_are_found_by_name",
    ),
    "`metrics.enabled` is on, `monitoring.enabled` off; both use port 6000": (
        "mended: two members on a machine would fight for the port",
        "unit/app/test_config_observing.py::test_nothing_is_monitored_or_traced_unless_it_is_asked_for",
        "unit/app/test_config_observing.py::test_a_newer_section_switches_the_older_one_off",
    ),
    "the plugin category `identity` has no plugin": ("copied", RECORDED),
    "the message for too many topics says 15": (
        "mended",
        "unit/model/test_names.py::test_bad_topics",
    ),
    "a webhook with a single value that is no object posts `{}`": (
        "mended",
        "unit/events/test_webhook_requests.py::test_bodies",
    ),
    "a second retry of an operation leaves the first copy unlinked": (
        "mended",
        "unit/operations/test_operations.py::test_concurrent_retries_make_one_chain",
    ),
    "`protocol_error` closes a socket, but not for a failed start in its URL": (
        "copied",
        "unit/rpc/test_subscribing.py::test_a_start_that_breaks_a_rule_closes_the_stream",
        "unit/rpc/test_subscribing.py::test_a_bad_start_in_the_url_leaves_the_stream_open",
    ),
}
SEEN: Final = {
    "UUIDs are no text on PostgreSQL: `id=^0` is 500": (
        "mended",
        "unit/model/test_query.py::test_values_have_the_type_of_their_field",
        "integration/store/test_filters.py::test_every_field_of_every_collection_can_be_filtered_and_sorted",
    ),
    "a group member's `node` must be a DID": (
        "mended",
        "e2e/test_messages.py::test_groups_are_the_same_on_both_members",
    ),
    "a bad UUID or hash in a body gives the decoder's text": ("mended", BAD_BODY),
    "a wrong method is 405 with an empty body": (
        "mended",
        "server/requests_test.go::TestRequestsTheCoreNeverSees",
    ),
    "`/datasubpaths` needs its slash, and folders cannot begin with one": (
        "mended",
        "e2e/test_data.py::test_folders_of_blobs",
        RECORDED,
    ),
    "`readAhead` of 70000 is taken": (
        "mended",
        "unit/events/test_options.py::test_windows_out_of_range",
    ),
    "`tag=?` finds nothing": (
        "mended",
        "integration/store/test_filters.py::test_sql_selects_what_the_filter_says",
        RECORDED,
    ),
    "JSON null is no value; a broadcast needs no data; what follows the JSON is ignored": (
        "copied, but for the last",
        BAD_BODY,
        "e2e/test_messages.py::test_broadcast_without_data_and_with_default_topic",
    ),
    "`txtype: unpinned` on a broadcast is ignored": ("mended", BAD_BODY),
    "an idempotency key of 257 characters is 500": (
        "mended",
        "unit/model/test_names.py::test_idempotency_keys",
    ),
    "a rejected claim with `confirm` ends in 408": (
        "mended",
        "integration/core_receive/test_registration.py::test_a_second_claim_of_a_name_is_answered_with_the_rejection",
    ),
    "there is no `nack`; a socket closes without a frame": (
        "mended",
        "e2e/test_events.py::test_nack_brings_an_event_again",
        "server/sockets_test.go::TestBadFrames",
    ),
    "some requests drop the connection": ("mended", BAD_BODY, BAD_PATH, RECORDED),
    "a reset ends the process once a namespace of tokens only was added": (
        "mended",
        "integration/spi/test_reset.py::test_a_namespace_of_tokens_only_may_be_added",
    ),
    "a request for a reply may be a broadcast to a group": (
        "mended",
        "e2e/test_request_reply.py::test_what_is_no_question",
    ),
    "a private message of an author outside its group is taken": (
        "mended",
        "integration/core_receive/test_hostile.py::test_unpinned_messages_of_who_is_no_member_are_refused",
        RECORDED,
    ),
    "two connectors with one key: nonce too low for ever": (
        "mended",
        "unit/ethereum/test_engine.py::test_a_nonce_used_by_others_moves_the_transaction",
    ),
    "JSON Schema errors carry the server's folder": (
        "mended",
        "unit/data/test_schemas.py::test_what_does_not_fit",
        RECORDED,
    ),
    "`terminate` with no next contract leaves none": (
        "mended",
        "unit/namespaces/test_contract_book.py::test_an_ended_contract_is_followed_by_the_next",
        RECORDED,
    ),
}


@pytest.mark.parametrize(("quirk", "row"), [*API.items(), *SEEN.items()])
def test_every_quirk_has_its_tests(quirk: str, row: tuple[str, ...]) -> None:
    what, *named = row
    assert re.match("copied|mended", what)
    assert named, quirk
    for name in named:
        path, _, function = name.partition("::")
        file = (GATEWAY if path.endswith(".go") else TESTS) / path
        assert file.exists(), name
        assert re.search(rf"^(async def|def|func) {function}\b", file.read_text(), re.MULTILINE), (
            name
        )


def test_lists_are_lists_in_the_document() -> None:
    """FireFly's has one message for the messages of a data item, and an array for a subscription's history."""
    document = yaml.safe_load((TESTS.parent / "docs" / "api" / "openapi.yaml").read_text())
    answers = {
        path: next(iter(methods["get"]["responses"]["200"]["content"].values()))["schema"]
        for path, methods in document["paths"].items()
        if path in ("/data/{dataid}/messages", "/subscriptions/{subid}/events")
    }
    several, counted = answers["/data/{dataid}/messages"]["oneOf"]
    assert several == {"type": "array", "items": {"$ref": "#/components/schemas/Message"}}
    assert counted["properties"]["items"] == several
    history = answers["/subscriptions/{subid}/events"]
    assert history["properties"].keys() == {"count", "total", "items"}
