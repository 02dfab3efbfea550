package broker

import (
	"errors"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
)

// AlterTopic, version 1: replaces the fields of a topic's configuration that the mask
// names. Fields that decide where keys go cannot be altered. Two alterations
// at a time never lose one another's fields: each is checked against the
// version that it was based on, and based anew if that is gone.

func (h *handler) alterTopic(r request) error {
	var req wire.AlterTopicRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	h.proposeAlter(r, &req)
	return nil
}

func (h *handler) proposeAlter(r request, req *wire.AlterTopicRequest) {
	var topic *consensus.Topic
	h.meta.View(func(m *consensus.Machine) { topic, _ = m.Topic(req.Name) })
	if topic == nil {
		r.fail(unknownTopic(req.Name))
		return
	}
	config, err := topic.Config.Alter(req.Config, req.Mask)
	if err == nil {
		err = h.checkConfig(&config)
	}
	if err != nil {
		r.fail(err)
		return
	}
	command := consensus.AlterTopic{ID: topic.ID, Version: topic.Version, Config: config}
	h.meta.Propose(command, func(result consensus.Result, err error) {
		if err == nil {
			err = result.Errors[0]
		}
		switch {
		case errors.Is(err, consensus.ErrChanged):
			h.proposeAlter(r, req)
		case err != nil:
			r.fail(err)
		default:
			r.answer(&wire.AlterTopicResponse{})
		}
	})
}
