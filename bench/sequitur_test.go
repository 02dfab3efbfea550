package bench

import (
	"testing"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

func TestNamedSettings(t *testing.T) {
	var acks sequitur.Acks
	require.NoError(t, setNamed(&acks, "acks", "leader"))
	require.Equal(t, sequitur.AcksLeader, acks)
	require.EqualError(t, setNamed(&acks, "acks", "most"), `acks "most": choose one of none, leader, quorum, all`)
	var codec sequitur.Codec
	require.NoError(t, setNamed(&codec, "compression", "zstd"))
	require.Equal(t, sequitur.CodecZstd, codec)
}

func TestDurabilityIsSaid(t *testing.T) {
	s := &sequiturSystem{}
	require.Equal(t, "fsync always, acks quorum on one broker: acknowledged after fsync", s.Durability(StreamSpec{}))
	require.Contains(t, s.Durability(StreamSpec{Fsync: "never"}), "before fsync")
	require.Contains(t, s.Durability(StreamSpec{Acks: "none"}), "not acknowledged")
}
