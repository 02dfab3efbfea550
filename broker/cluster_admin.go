package broker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/wire"
)

// ClusterStatus and ClusterChange, version 1: any broker takes them and asks the
// controller. They wait on a goroutine of their own: the controller may be away.

const adminTimeout = 15 * time.Second

func (h *handler) clusterStatus(r request) error {
	var req wire.ClusterStatusRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	h.askController(r, controller.AdminStatus, nil, func(answer []byte) wire.Message {
		return &wire.ClusterStatusResponse{Document: answer}
	})
	return nil
}

func (h *handler) clusterChange(r request) error {
	var req wire.ClusterChangeRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	order := controller.Request{Action: controller.Action(req.Action), Node: req.Node, Partition: req.Partition}
	if req.Topic != "" {
		var topic *consensus.Topic
		h.meta.View(func(m *consensus.Machine) { topic, _ = m.Topic(req.Topic) })
		if topic == nil {
			r.fail(unknownTopic(req.Topic))
			return nil
		}
		if int64(req.Partition) >= int64(len(topic.Partitions)) {
			r.fail(unknownPartition(req.Topic, req.Partition, len(topic.Partitions)))
			return nil
		}
		order.Topic = topic.ID
	}
	body, err := json.Marshal(order)
	if err != nil {
		r.fail(err)
		return nil
	}
	h.askController(r, controller.AdminChange, body, func(answer []byte) wire.Message {
		return &wire.ClusterChangeResponse{Text: string(answer)}
	})
	return nil
}

func (h *handler) askController(r request, kind uint16, body []byte, answer func([]byte) wire.Message) {
	if h.clustered == nil {
		r.fail(wire.Errorf(wire.CodeUnsupported, "this broker is by itself: start it with cluster-listen for a cluster"))
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
		defer cancel()
		got, err := h.clustered.node.Admin(ctx, kind, body, true)
		if err != nil {
			r.fail(err)
			return
		}
		r.answer(answer(got))
	}()
}
