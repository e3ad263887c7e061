"""ChartService: counts over time."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from photinus.api.v1 import chart_pb2, chart_service_pb2_grpc
from photinus.api.v1 import chart_service_pb2 as pb

from photinus_core.ports.store import Bucket
from photinus_core.rpc.errors import Context
from photinus_core.rpc.services.base import Servicer


class ChartServicer(Servicer, chart_service_pb2_grpc.ChartServiceServicer):
    """Serves charts."""

    async def GetChartHistogram(
        self, request: pb.GetChartHistogramRequest, context: Context
    ) -> pb.GetChartHistogramResponse:
        found = await self.namespace(request).charts.histogram(
            request.collection, request.start_time, request.end_time, request.buckets
        )
        return pb.GetChartHistogramResponse(items=map(_bucket, found))


def _bucket(record: Bucket) -> chart_pb2.ChartHistogram:
    # Not `convert.timestamp`: the zero is a time here, not an absent one.
    begin = Timestamp()
    begin.FromNanoseconds(record.begin)
    return chart_pb2.ChartHistogram(
        count=str(record.count),
        timestamp=begin,
        types=[
            chart_pb2.ChartHistogramType(count=str(count), type=kind)
            for kind, count in record.types
        ],
        is_capped=record.is_capped,
    )
