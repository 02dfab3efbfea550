package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// replicaTimeout bounds the question to one broker of a cluster.
const replicaTimeout = 2 * time.Second

// lags is what replicas of a topic's partitions are behind their leader, by
// partition and node; a replica that cannot be asked is missing.
type lags []map[uint32]int64

// askLeaders has each broker of a cluster asked about its own replicas: a broker
// knows nothing of those of others. What stands in topics afterwards is what the
// leaders have, where they can be asked.
func (c *cli) askLeaders(ctx context.Context, client *sequitur.Client, topics []sequitur.TopicDescription) ([]lags, error) {
	found := make([]lags, len(topics))
	brokers, err := client.ListBrokers(ctx)
	if err != nil || len(brokers) < 2 {
		return found, err
	}
	names := make([]string, len(topics))
	at := map[string]int{}
	ends := make([]lags, len(topics))
	for i := range topics {
		names[i], at[topics[i].Name] = topics[i].Name, i
		for range topics[i].Partitions {
			found[i], ends[i] = append(found[i], map[uint32]int64{}), append(ends[i], map[uint32]int64{})
		}
	}
	for _, b := range brokers {
		for _, own := range askOne(ctx, b.Addr, names) {
			i, known := at[own.Name]
			if !known || len(own.Partitions) != len(topics[i].Partitions) {
				continue
			}
			for p := range own.Stats {
				ends[i][p][b.ID] = own.Stats[p].End
				if topics[i].Partitions[p].Leader == b.ID {
					topics[i].Stats[p] = own.Stats[p]
				}
			}
		}
	}
	for i := range topics {
		for p, byNode := range ends[i] {
			m := &topics[i].Partitions[p]
			end, led := byNode[m.Leader]
			for _, node := range m.Replicas {
				if own, asked := byNode[node]; asked && led {
					found[i][p][node] = max(end-own, 0)
				}
			}
		}
	}
	return found, nil
}

// askOne asks the broker at an address, which may be away.
func askOne(ctx context.Context, addr string, names []string) []sequitur.TopicDescription {
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	client, err := sequitur.Connect(ctx, addr, sequitur.WithClientName("broker-cli"))
	if err != nil {
		return nil
	}
	defer client.Close()
	topics, err := client.DescribeTopics(ctx, names...)
	if err != nil {
		return nil
	}
	return topics
}

// replicasText lists the replicas of a partition with what they lag, as far as
// known: "1 2(+17) 3(?)".
func replicasText(replicas []uint32, lag map[uint32]int64) string {
	var out []string
	for _, node := range replicas {
		text := strconv.FormatUint(uint64(node), 10)
		switch behind, known := lag[node]; {
		case !known:
			text += "(?)"
		case behind > 0:
			text += fmt.Sprintf("(+%d)", behind)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func leaderText(leader uint32) string {
	if leader == 0 {
		return "none"
	}
	return strconv.FormatUint(uint64(leader), 10)
}
