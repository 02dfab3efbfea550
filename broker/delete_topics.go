package broker

import (
	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
)

// DeleteTopics, version 1: deletes each topic with all its records; the answer has
// one result per topic. Requests to a topic that is being deleted get
// UNKNOWN_TOPIC. The name may be used again at once.

func (h *handler) deleteTopics(r request) error {
	var req wire.DeleteTopicsRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	if err := checkNames(req.Topics); err != nil {
		r.fail(err)
		return nil
	}
	resp := &wire.DeleteTopicsResponse{Topics: make([]wire.TopicResult, len(req.Topics))}
	var command consensus.DeleteTopics
	var items []int
	h.meta.View(func(m *consensus.Machine) {
		for i, name := range req.Topics {
			resp.Topics[i].Name = name
			if t, ok := m.Topic(name); ok {
				command.IDs, items = append(command.IDs, t.ID), append(items, i)
				continue
			}
			resp.Topics[i].Code, resp.Topics[i].Message = h.partError(unknownTopic(name))
		}
	})
	if len(items) == 0 {
		r.answer(resp)
		return nil
	}
	h.meta.Propose(command, func(result consensus.Result, err error) {
		for i, item := range items {
			itemErr := err
			if err == nil && result.Errors[i] != nil {
				itemErr = unknownTopic(resp.Topics[item].Name) // somebody was faster
			}
			if itemErr != nil {
				resp.Topics[item].Code, resp.Topics[item].Message = h.partError(itemErr)
			}
		}
		r.answer(resp)
	})
	return nil
}
