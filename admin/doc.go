// Package admin is the HTTP side of a broker: health, readiness and metrics. It
// changes nothing and knows nothing of the native protocol.
//
//	/healthz   200 while the process does its work, 503 and the reason when its
//	           storage has failed: restart it
//	/readyz    200 when requests are served, 503 and the reason while it is
//	           starting, stopping or not able to take writes: send clients elsewhere
//	/metrics   figures for Prometheus, under the names of MetricTable
//
// What is shown comes from a [Source], which this package declares and the
// broker satisfies. Figures are read when asked for; nothing runs in between.
// Their number is bounded: none is per partition, and topics beyond MaxTopics
// are added up.
package admin
