package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// adminTimeout bounds commands that ask one question.
const adminTimeout = 30 * time.Second

// connect reaches the broker that --server names.
func (c *cli) connect(ctx context.Context, opts ...sequitur.Option) (*sequitur.Client, error) {
	for _, addr := range strings.Split(c.server, ",") {
		if _, port, err := net.SplitHostPort(strings.TrimSpace(addr)); err != nil || port == "" {
			return nil, usagef("for example: --server "+defaultServer, "--server %q is not HOST:PORT[,HOST:PORT]", c.server)
		}
	}
	opts = append([]sequitur.Option{sequitur.WithClientName("broker-cli")}, opts...)
	client, err := sequitur.Connect(ctx, c.server, opts...)
	if err != nil && interrupted(ctx) {
		return nil, errInterrupted
	}
	return client, err
}

// withClient runs a command that asks the broker something and is done.
func (c *cli) withClient(do func(ctx context.Context, client *sequitur.Client) error) error {
	ctx, stop := c.interruptible(context.Background())
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	client, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	err = do(ctx, client)
	if err != nil && interrupted(ctx) {
		return errInterrupted
	}
	return c.hintTopic(ctx, client, err)
}

// hintTopic adds to "no such topic" the topics that may have been meant.
func (c *cli) hintTopic(ctx context.Context, client *sequitur.Client, err error) error {
	var remote *sequitur.Error
	if !errors.Is(err, sequitur.ErrUnknownTopic) || !errors.As(err, &remote) || remote.Topic == "" {
		return err
	}
	topics, listErr := client.ListTopics(ctx)
	if listErr != nil {
		return err
	}
	var names []string
	for _, t := range topics {
		names = append(names, t.Name)
	}
	f := c.explain(err)
	if meant := didYouMean(remote.Topic, names); meant != "" {
		f.todo = meant + "\n" + f.todo
	}
	return f
}

// noticeHooks tell the user on standard error what the client lives through,
// so that waiting for a broker that went away does not look like a hang.
type noticeHooks struct {
	sequitur.NoHooks
	c   *cli
	say func(format string, args ...any)

	mu   sync.Mutex
	lost map[string]bool // addresses whose loss was reported
	told time.Time       // when a refusal was reported last
}

// refusalsEvery is the least time between two reports of refused batches.
const refusalsEvery = 5 * time.Second

func newNoticeHooks(c *cli, say func(format string, args ...any)) *noticeHooks {
	return &noticeHooks{c: c, say: say, lost: map[string]bool{}}
}

// Disconnected reports a lost connection, once until it is back.
func (h *noticeHooks) Disconnected(addr string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.lost[addr] {
		h.lost[addr] = true
		h.say("lost the connection to %s, trying again (%v)", addr, err)
	}
}

// Connected reports that a lost connection is back.
func (h *noticeHooks) Connected(addr string, _ time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && h.lost[addr] {
		delete(h.lost, addr)
		h.say("connected to %s again", addr)
	}
}

// ProduceRetried reports what the broker refuses for now, such as batches that
// find its disk full. What became of a connection is told elsewhere.
func (h *noticeHooks) ProduceRetried(_ string, _ int32, err error) {
	if errors.Is(err, sequitur.ErrUnreachable) || errors.Is(err, sequitur.ErrSequenceGap) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.told) >= refusalsEvery {
		h.told = now
		h.say("refused for now, trying again: %s", h.c.explain(err).what)
	}
}

// CorruptSkipped reports records left out on request.
func (h *noticeHooks) CorruptSkipped(topic string, partition int32, from, to int64, _ error) {
	h.say("skipped damaged records of topic %s, partition %d: offsets %d to %d", topic, partition, from, to-1)
}

// ProducerReset reports acknowledged records that the broker has lost.
func (h *noticeHooks) ProducerReset(topic string, partition int32, lost bool, err error) {
	if lost {
		h.say("the broker has lost acknowledged records of %s, partition %d; see the topic's fsync setting (%v)", topic, partition, err)
	}
}

// say prints a line on standard error.
func (c *cli) say(format string, args ...any) {
	fmt.Fprintf(c.stderr, "broker: "+format+"\n", args...)
}
