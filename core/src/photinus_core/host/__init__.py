"""The plugin host: reaches connectors, keeps them reached, and stands for them in the core.

`ConnectorHost` starts one supervisor per configured instance and gives out proxies behind
`ports.connectors`. Nothing outside this room knows of processes, channels or protos.
"""

from photinus_core.host.instances import Category, InstanceConfig, TlsFiles, WhenAway
from photinus_core.host.registration import CoreFacts, StoreIds
from photinus_core.host.service import ConnectorHost

__all__ = [
    "Category",
    "ConnectorHost",
    "CoreFacts",
    "InstanceConfig",
    "StoreIds",
    "TlsFiles",
    "WhenAway",
]
