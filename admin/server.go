package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	readTimeout    = 5 * time.Second  // for a whole request
	writeTimeout   = 30 * time.Second // for a whole answer
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
	maxScrapes     = 4 // of /metrics at a time
)

// Server answers HTTP requests until it is closed.
type Server struct {
	http     *http.Server
	listener net.Listener
	done     chan struct{} // closed when the serving goroutine has ended
}

// Start listens on addr (host:port, port 0 takes a free one) and serves what
// source tells. The caller closes the server.
func Start(source Source, addr string, logger *slog.Logger) (*Server, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	handler, err := Handler(source)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP on %s: %w; choose another address with --http, or turn HTTP off with --http \"\"", addr, err)
	}
	s := &Server{
		http: &http.Server{
			Handler:        handler,
			ReadTimeout:    readTimeout,
			WriteTimeout:   writeTimeout,
			IdleTimeout:    idleTimeout,
			MaxHeaderBytes: maxHeaderBytes,
			ErrorLog:       slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		listener: listener,
		done:     make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("serve HTTP", "addr", addr, "error", err)
		}
	}()
	return s, nil
}

// Addr is the address listened on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close stops listening and waits for requests in progress; when ctx is done it
// closes their connections.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests were cut off: %w", errors.Join(err, s.http.Close()))
	}
	<-s.done
	return err
}

// Handler returns what Start serves, to be mounted elsewhere.
func Handler(source Source) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		newCollector(source),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	gatherers := prometheus.Gatherers{registry}
	if more, ok := source.(interface{ Gatherer() prometheus.Gatherer }); ok {
		gatherers = append(gatherers, more.Gatherer()) // of the controller
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", index)
	mux.Handle("GET /healthz", check("ok", source.Health))
	mux.Handle("GET /readyz", check("ready", source.Ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	return mux, nil
}

func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "Sequitur broker\n\n/healthz   is the process able to work\n/readyz    does it serve requests now\n/metrics   figures for Prometheus")
}

// check answers 200 and the word, or 503 and the reason.
func check(word string, state func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := state(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, word)
	})
}
