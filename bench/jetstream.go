package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStreamOptions describes the server to compare with.
type JetStreamOptions struct {
	// URL as nats.go takes it, for example nats://127.0.0.1:4222.
	URL string
	// Sync is the server's sync mode as told by the user: "lazy" (the default of the server: a sync every two minutes),
	// "always", or "" for unknown. A client cannot see it.
	Sync string
	// MonitorURL is the server's HTTP monitoring address, where the mode can be read ("" = not given).
	MonitorURL string
	// PID of the server's process, for its processor time and memory; 0 = found by its port where it runs here.
	PID int
}

// jetStreamSystem is a NATS server with JetStream and file storage, or a cluster of them.
type jetStreamSystem struct {
	opts    JetStreamOptions
	urls    map[string]string // of the servers of a cluster, by name; nil for a server by itself
	admin   *nats.Conn
	js      jetstream.JetStream
	sync    string // lazy, always or unknown
	evident string // how the mode is known
	pid     int
}

// ConnectJetStream connects to a JetStream server.
func ConnectJetStream(ctx context.Context, o JetStreamOptions) (System, error) {
	nc, err := nats.Connect(o.URL, nats.Name("bench admin"), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectPause))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w (is nats-server -js running there?)", o.URL, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream at %s: %w", o.URL, err)
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("JetStream at %s: %w (start the server with -js)", o.URL, err)
	}
	s := &jetStreamSystem{opts: o, admin: nc, js: js, sync: o.Sync, evident: "as told", pid: o.PID}
	if s.sync == "" {
		s.sync, s.evident = "unknown", "not told; a client cannot see it, the server's default is lazy"
	}
	if o.MonitorURL != "" {
		if s.sync, err = monitoredSync(ctx, o.MonitorURL); err != nil {
			nc.Close()
			return nil, err
		}
		s.evident = "read from its monitoring port"
	}
	if s.pid == 0 {
		s.pid = localListener(nc.ConnectedUrl())
	}
	return s, nil
}

// monitoredSync reads the sync mode from the server's monitoring port.
func monitoredSync(ctx context.Context, monitor string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, monitor+"/jsz?config=1", nil)
	if err != nil {
		return "", fmt.Errorf("monitoring address %q: %w", monitor, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask NATS monitoring for the sync mode: %w", err)
	}
	defer resp.Body.Close()
	var jsz struct {
		Config struct {
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		} `json:"config"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&jsz); err != nil {
		return "", fmt.Errorf("read NATS monitoring answer: %w", err)
	}
	if jsz.Config.SyncAlways {
		return "always", nil
	}
	return "lazy", nil
}

// localListener finds the process that listens on the port of a loopback URL; 0 where there is none to be seen.
func localListener(rawURL string) int {
	u, err := url.Parse(rawURL)
	if err != nil {
		return 0
	}
	addr, err := net.ResolveTCPAddr("tcp", u.Host)
	if err != nil || !addr.IP.IsLoopback() {
		return 0
	}
	return listenerPID(addr.Port)
}

func (s *jetStreamSystem) Name() string { return "jetstream " + s.sync }

func (s *jetStreamSystem) Durability(spec StreamSpec) string {
	storage := "file storage"
	if spec.Replicas > 1 {
		storage += fmt.Sprintf(" on %d servers (R%d)", spec.Replicas, spec.Replicas)
	}
	switch s.sync {
	case "always":
		return fmt.Sprintf("%s, sync_interval always (%s): acknowledged after fsync", storage, s.evident)
	case "lazy":
		return fmt.Sprintf("%s, lazy sync (%s): acknowledged before any fsync", storage, s.evident)
	default:
		return fmt.Sprintf("%s, sync mode %s (%s)", storage, s.sync, s.evident)
	}
}

func (s *jetStreamSystem) Version(context.Context) (string, error) {
	return fmt.Sprintf("nats-server %s, nats.go %s", s.admin.ConnectedServerVersion(), nats.Version), nil
}

func (s *jetStreamSystem) Usage(context.Context) (Usage, bool, error) {
	if s.pid == 0 {
		return Usage{}, false, nil
	}
	u, err := processUsage(s.pid)
	if err != nil {
		return Usage{}, false, err
	}
	return u, true, nil
}

func (s *jetStreamSystem) Close() error {
	s.admin.Close()
	return nil
}

// jetStreamStream is a set of streams: JetStream's unit of order is the stream, so partitions are streams.
type jetStreamStream struct {
	sys      *jetStreamSystem
	names    []string
	subjects []string
}

func (s *jetStreamSystem) CreateStream(ctx context.Context, spec StreamSpec) (Stream, error) {
	st := &jetStreamStream{sys: s}
	for i := range max(spec.Partitions, 1) {
		name := fmt.Sprintf("%s-%d", spec.Name, i)
		_, err := s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage, Replicas: max(spec.Replicas, 1),
			AllowBatchPublish: true,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create JetStream stream %s: %w", name, err), st.Delete(ctx))
		}
		st.names, st.subjects = append(st.names, name), append(st.subjects, name)
	}
	return st, nil
}

func (st *jetStreamStream) Delete(ctx context.Context) error {
	var errs []error
	for _, name := range st.names {
		if err := st.sys.js.DeleteStream(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("delete JetStream stream %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (st *jetStreamStream) Publisher(ctx context.Context, spec PublisherSpec) (Publisher, error) {
	nc, err := st.connect(ctx, "bench publisher", spec.Detour)
	if err != nil {
		return nil, err
	}
	if spec.Mode == FastBatch {
		return newFastPublisher(ctx, nc, st.subjects, spec.InFlight)
	}
	p := &jetStreamPublisher{nc: nc, subjects: st.subjects, probes: make(map[*nats.Msg]*Probe), persist: spec.Persist}
	p.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(max(spec.InFlight, 1)),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) { p.done(m, nil) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { p.done(m, err) }))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return p, nil
}

// jetStreamPublisher publishes one by one, synchronously or asynchronously.
type jetStreamPublisher struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects []string
	persist  bool

	mu     sync.Mutex
	probes map[*nats.Msg]*Probe
	failed error // first since the last Flush
}

func (p *jetStreamPublisher) done(m *nats.Msg, err error) {
	p.mu.Lock()
	probe := p.probes[m]
	if probe != nil {
		delete(p.probes, m)
	}
	if err != nil && p.failed == nil {
		p.failed = err
	}
	p.mu.Unlock()
	if probe != nil {
		probe.Done(err)
	}
}

func (p *jetStreamPublisher) Send(ctx context.Context, r Outgoing) error {
	if p.persist {
		return p.sendUntilTaken(ctx, r)
	}
	_, err := p.js.Publish(ctx, p.subject(r.Key), r.Value)
	return err
}

// subject spreads keyed records over the streams; the first stream takes the others.
func (p *jetStreamPublisher) subject(key []byte) string {
	return p.subjects[spread(key, len(p.subjects))]
}

func (p *jetStreamPublisher) SendAsync(ctx context.Context, r Outgoing, probe *Probe) error {
	m := &nats.Msg{Subject: p.subject(r.Key), Data: r.Value}
	if probe != nil {
		p.mu.Lock()
		p.probes[m] = probe
		p.mu.Unlock()
	}
	for {
		_, err := p.js.PublishMsgAsync(m)
		// A full window that did not move for the client's stall time is waited for, not an error.
		if !errors.Is(err, jetstream.ErrTooManyStalledMsgs) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (p *jetStreamPublisher) Flush(ctx context.Context) error {
	select {
	case <-p.js.PublishAsyncComplete():
	case <-ctx.Done():
		return fmt.Errorf("wait for %d JetStream acknowledgements: %w", p.js.PublishAsyncPending(), ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failed
	p.failed = nil
	return err
}

func (p *jetStreamPublisher) Close(context.Context) error {
	p.js.CleanupPublisher()
	p.nc.Close()
	return nil
}
