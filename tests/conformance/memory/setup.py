"""Settings and fixture for the connector in memory."""

from photinus_sanity import Setup

from tests.conformance.memory.world import KEY, OTHER_KEY

ALL = ("blockchain", "tokens", "dx", "storage")
SECRET = "hunter22-secret"
SETUP = Setup(
    {"name": "memory", "token": SECRET},
    {
        "blockchain": {
            "signingKey": KEY,
            "foreignKey": OTHER_KEY,
            "multiparty": {"location": {"address": "0x1"}, "version": 2},
            "contract": {
                "location": {"address": "0x2"},
                "invoke": {"method": {"name": "set"}, "inputs": [{"value": 1}, {"value": 2}]},
                "event": {"name": "Changed"},
                "query": {"method": {"name": "get"}, "input": {}},
                "reverts": {"method": {"name": "set"}, "input": {"value": 13}},
            },
        },
        "tokens": {"signingKey": KEY, "otherAccount": OTHER_KEY},
        "sharedStorage": {"corruptReference": "corrupt", "absentReference": "absent"},
    },
)
