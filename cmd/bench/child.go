package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sequitur-mq/sequitur/bench"
	"github.com/sequitur-mq/sequitur/broker"
)

// The hidden commands that this program starts itself with, for the duration of a run.
const (
	childName = "serve-child" // a broker
	echoName  = "echo-child"  // the other end of a round trip
)

// launcher starts this program again as a broker.
func (c *cli) launcher() (bench.Launcher, error) {
	self, err := os.Executable()
	if err != nil {
		return bench.Launcher{}, fmt.Errorf("find this program to start it as a broker: %w", err)
	}
	return bench.Launcher{
		Command: self,
		Orderly: c.common.serverCPUProfile != "" || c.common.serverMemProfile != "",
		Args:    func(dataDir string) []string { return c.childArgs(dataDir, "") },
		Member: func(m bench.Member) []string {
			return append(c.childArgs(m.DataDir, fmt.Sprintf(".%d", m.Node)), "--node-id", strconv.Itoa(m.Node),
				"--listen", m.Listen, "--cluster-listen", m.ClusterListen, "--join", m.Join)
		},
	}, nil
}

// childArgs are those of every broker; suffix tells the profiles of several apart.
func (c *cli) childArgs(dataDir, suffix string) []string {
	args := []string{childName, "--data", dataDir}
	if f := c.common.serverCPUProfile; f != "" {
		args = append(args, "--cpuprofile", f+suffix)
	}
	if f := c.common.serverMemProfile; f != "" {
		args = append(args, "--memprofile", f+suffix)
	}
	return args
}

// echo starts this program again as the other end of a round trip.
func (c *cli) echo() (bench.Launcher, error) {
	self, err := os.Executable()
	if err != nil {
		return bench.Launcher{}, fmt.Errorf("find this program to start it again: %w", err)
	}
	return bench.Launcher{Command: self, Args: func(string) []string { return []string{echoName} }}, nil
}

func (c *cli) echoCommand() *cobra.Command {
	return &cobra.Command{
		Use: echoName, Hidden: true, Args: cobra.NoArgs,
		Short: "Send back what one connection sends",
		RunE: func(*cobra.Command, []string) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer listener.Close()
			go func() {
				_, _ = io.Copy(io.Discard, c.stdin)
				listener.Close() // the parent is gone
			}()
			fmt.Fprintf(c.stdout, "%s%s\n", bench.ListeningPrefix, listener.Addr())
			return bench.ServeEcho(listener)
		},
	}
}

func (c *cli) childCommand() *cobra.Command {
	cfg := broker.DefaultConfig()
	cfg.Listen, cfg.HTTP = "127.0.0.1:0", ""
	cmd := &cobra.Command{
		Use: childName, Hidden: true, Args: cobra.NoArgs,
		Short: "Serve a broker on loopback until standard input ends",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serveChild(cmd.Context(), cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.DataDir, "data", "", "data directory")
	flags.StringVar(&cfg.Listen, "listen", cfg.Listen, "address for clients")
	flags.IntVar(&cfg.NodeID, "node-id", cfg.NodeID, "number of this broker in its cluster")
	flags.StringVar(&cfg.ClusterListen, "cluster-listen", cfg.ClusterListen, "address for the other brokers of a cluster")
	flags.StringVar(&cfg.Join, "join", cfg.Join, "cluster addresses of all brokers")
	return cmd
}

// serveChild runs a broker with default settings but for its place. It ends with its parent, whose end closes standard input.
func (c *cli) serveChild(ctx context.Context, cfg broker.Config) (err error) {
	stopProfile, err := c.profile()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	cfg.Logger = slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := broker.Start(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s%s\n", bench.ListeningPrefix, b.Addr())
	parentGone := make(chan struct{})
	go func() {
		defer close(parentGone)
		_, _ = io.Copy(io.Discard, c.stdin)
	}()
	select {
	case <-parentGone:
	case <-ctx.Done():
	case err = <-b.Err():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*shutdownPatience)
	defer cancel()
	return errors.Join(err, b.Shutdown(stopCtx))
}
