package admin

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/broker"
)

var _ Source = (*broker.Broker)(nil)

// The real thing stands behind the endpoints.
func TestBroker(t *testing.T) {
	cfg := broker.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = t.TempDir(), "127.0.0.1:0", ""
	cfg.JournalFileBytes, cfg.ReserveBytes = 4<<20, 1<<20
	cfg.Logger = slog.New(slog.DiscardHandler)
	b, err := broker.Start(context.Background(), cfg)
	require.NoError(t, err)
	_, get := start(t, b)
	code, body := get("GET", "/healthz")
	require.Equal(t, 200, code, body)
	code, body = get("GET", "/readyz")
	require.Equal(t, 200, code, body)
	code, body = get("GET", "/metrics")
	require.Equal(t, 200, code)
	require.Contains(t, body, "sequitur_ready 1\n")
	require.Contains(t, body, "sequitur_storage_full 0\n")
	require.Contains(t, body, `sequitur_requests_total{kind="Produce"} 0`)
	require.NotContains(t, body, "sequitur_disk_free_bytes 0\n")

	require.NoError(t, b.Close())
	code, body = get("GET", "/readyz")
	require.Equal(t, 503, code)
	require.Contains(t, body, "the broker stops")
}
