package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

func (c *cli) clusterCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "cluster",
		Short: "Look at a cluster, and change who holds and leads what",
	}, (*cobra.Command).Help)
	c.serverFlag(cmd)
	cmd.AddCommand(
		c.clusterStatusCommand(),
		c.clusterNode("add NODE", "Give a broker that has joined its share of the replicas", "add",
			"Moves about one in N replicas onto the new broker, the Nth; a broker that joins gets\nnew topics at once, but what is there stays where it is until this is ordered."),
		c.clusterNode("remove NODE", "Move everything away from a broker, then forget it", "remove",
			"The broker must stay up until its replicas have moved, if it can; stop it when the\ncommand is done. A broker that is lost for good can be removed too."),
		c.clusterNode("drain NODE", "Move everything away from a broker, for example for maintenance", "drain",
			"The broker stays in the cluster and gets nothing new until: broker cluster cancel NODE"),
		c.clusterRebalance(), c.clusterMoveLeader(), c.clusterCancel(), c.clusterLocal(),
	)
	return cmd
}

// clusterStatus is the document that the controller sends; its field names are
// part of the interface.
type clusterStatus struct {
	Term       uint64 `json:"term"`
	Controller uint32 `json:"controller"`
	Brokers    []struct {
		Node     uint32 `json:"node"`
		Addr     string `json:"addr"`
		Rack     string `json:"rack"`
		Version  string `json:"version"`
		State    string `json:"state"`
		StateMs  int64  `json:"state_ms"`
		Voter    bool   `json:"voter"`
		Leaders  int    `json:"leaders"`
		Replicas int    `json:"replicas"`
		DiskFree uint64 `json:"disk_free_bytes"`
		Suspects int    `json:"damaged_replicas"`
	} `json:"brokers"`
	Partitions struct {
		Total           int `json:"total"`
		WithoutLeader   int `json:"without_leader"`
		UnderReplicated int `json:"under_replicated"`
		Unavailable     int `json:"unavailable"`
		Moving          int `json:"moving"`
	} `json:"partitions"`
	Moves []struct {
		Topic     string   `json:"topic"`
		Partition uint32   `json:"partition"`
		Reason    string   `json:"reason"`
		Stage     string   `json:"stage"`
		Add       []uint32 `json:"add"`
		Drop      []uint32 `json:"drop"`
		ForMs     int64    `json:"for_ms"`
	} `json:"moves"`
}

func (c *cli) clusterStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show brokers, partitions that lack something, and what moves",
		Args:  names(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
				s, raw, err := askStatus(ctx, client)
				if err != nil {
					return err
				}
				if c.json {
					var out bytes.Buffer
					if err := json.Indent(&out, raw, "", "  "); err != nil {
						return err
					}
					fmt.Fprintln(c.stdout, out.String())
					return nil
				}
				c.printStatus(s)
				return nil
			})
		},
	}
	c.jsonFlag(cmd, "print the controller's status as JSON")
	return cmd
}

func askStatus(ctx context.Context, client *sequitur.Client) (s clusterStatus, raw []byte, err error) {
	if raw, err = client.ClusterStatus(ctx); err != nil {
		return s, nil, err
	}
	return s, raw, json.Unmarshal(raw, &s)
}

func (c *cli) printStatus(s clusterStatus) {
	p := &s.Partitions
	fmt.Fprintf(c.stdout, "%s, controller is broker %d\n", count(int64(len(s.Brokers)), "broker"), s.Controller)
	fmt.Fprintf(c.stdout, "%s: %d without leader, %d under-replicated, %d unavailable, %d moving\n\n",
		count(int64(p.Total), "partition"), p.WithoutLeader, p.UnderReplicated, p.Unavailable, p.Moving)
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BROKER\tADDRESS\tRACK\tSTATE\tFOR\tLEADERS\tREPLICAS\tDAMAGED\tVOTES\tDISK FREE\tVERSION")
	for _, b := range s.Brokers {
		rack, votes := b.Rack, "no"
		if rack == "" {
			rack = "-"
		}
		if b.Voter {
			votes = "yes"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", b.Node, b.Addr, rack, b.State, age(b.StateMs),
			b.Leaders, b.Replicas, b.Suspects, votes, roundSize(b.DiskFree), b.Version)
	}
	w.Flush()
	if len(s.Moves) == 0 {
		return
	}
	fmt.Fprintln(c.stdout)
	fmt.Fprintln(w, "MOVING\tSTAGE\tTO\tFROM\tFOR\tREASON")
	for _, m := range s.Moves {
		fmt.Fprintf(w, "%s/%d\t%s\t%s\t%s\t%s\t%s\n", m.Topic, m.Partition, m.Stage, nodeList(m.Add), nodeList(m.Drop), age(m.ForMs), m.Reason)
	}
	w.Flush()
}

func age(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func nodeList(nodes []uint32) string {
	if len(nodes) == 0 {
		return "-"
	}
	var s []string
	for _, n := range nodes {
		s = append(s, strconv.FormatUint(uint64(n), 10))
	}
	return strings.Join(s, ",")
}

func parseNode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, usagef("see them with: broker cluster status", "%q is not the number of a broker", s)
	}
	return uint32(n), nil
}

// clusterNode is a command that orders something about one broker.
func (c *cli) clusterNode(use, short, action, long string) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: use, Short: short, Long: short + ".\n\n" + long,
		Args: names(1, 1, "the number of a broker"),
		RunE: func(_ *cobra.Command, args []string) error {
			node, err := parseNode(args[0])
			if err != nil {
				return err
			}
			return c.order(sequitur.ClusterChange{Action: action, Node: node}, wait)
		},
	}
	waitFlag(cmd, &wait)
	return cmd
}

func waitFlag(cmd *cobra.Command, wait *bool) {
	cmd.Flags().BoolVar(wait, "wait", false, "return when it is done, and show progress meanwhile")
}

func (c *cli) clusterRebalance() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "rebalance",
		Short: "Even out replicas and leaders over the brokers",
		Args:  names(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return c.order(sequitur.ClusterChange{Action: "rebalance"}, wait)
		},
	}
	waitFlag(cmd, &wait)
	return cmd
}

func (c *cli) clusterMoveLeader() *cobra.Command {
	return &cobra.Command{
		Use:     "move-leader TOPIC/PARTITION NODE",
		Short:   "Have another replica lead a partition",
		Example: "  broker cluster move-leader orders/3 2",
		Args:    names(2, 2, "a partition and the number of a broker"),
		RunE: func(_ *cobra.Command, args []string) error {
			topic, number, ok := strings.Cut(args[0], "/")
			partition, err := strconv.ParseUint(number, 10, 31)
			if !ok || err != nil {
				return usagef("for example: orders/3", "%q is not TOPIC/PARTITION", args[0])
			}
			node, err := parseNode(args[1])
			if err != nil {
				return err
			}
			return c.order(sequitur.ClusterChange{Action: "move-leader", Topic: topic, Partition: uint32(partition), Node: node}, false)
		},
	}
}

func (c *cli) clusterCancel() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel [NODE]",
		Short: "Stop moves, drains and removals: those of one broker, or all",
		Args:  names(0, 1, "the number of a broker"),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			change := sequitur.ClusterChange{Action: "cancel"}
			if len(args) == 1 {
				if change.Node, err = parseNode(args[0]); err != nil {
					return err
				}
			}
			return c.order(change, false)
		},
	}
}

// order gives an order and, if wanted, waits until nothing moves any more.
func (c *cli) order(change sequitur.ClusterChange, wait bool) error {
	return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
		text, err := client.ChangeCluster(ctx, change)
		if err != nil {
			return err
		}
		if text != "" {
			fmt.Fprintln(c.stdout, text)
		}
		if !wait {
			if change.Action != "move-leader" && change.Action != "cancel" {
				c.say("under way; see how it goes on with: %s cluster status", c.invoked())
			}
			return nil
		}
		return c.awaitMoves(client, change)
	})
}

// awaitMoves shows how many moves are left until there are none.
func (c *cli) awaitMoves(client *sequitur.Client, change sequitur.ClusterChange) error {
	ctx, stop := c.interruptible(context.Background()) // for as long as it takes
	defer stop()
	last := -1
	for quiet := 0; quiet < 2; {
		s, _, err := askStatus(ctx, client)
		if interrupted(ctx) {
			c.say("this goes on without the command; see: %s cluster status", c.invoked())
			return errInterrupted
		}
		if err != nil {
			return err
		}
		left := s.Partitions.Moving
		for _, b := range s.Brokers {
			if change.Action == "remove" && b.Node == change.Node {
				left = max(left, 1)
			}
		}
		if left != last {
			c.say("%s to go", count(int64(left), "partition"))
			last = left
		}
		if left == 0 {
			quiet++ // once more: what is planned last shows late
		} else {
			quiet = 0
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	fmt.Fprintln(c.stdout, "done")
	return nil
}
