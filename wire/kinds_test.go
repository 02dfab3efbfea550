package wire

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKinds(t *testing.T) {
	for i, k := range Kinds() {
		require.Equal(t, Kind(i+1), k.Kind)
		require.Equal(t, k.Name, k.Kind.String())
		require.LessOrEqual(t, k.Min, k.Max)
		require.Equal(t, k.Name+"Request", reflect.TypeOf(k.NewRequest()).Elem().Name())
		require.Equal(t, k.Name+"Response", reflect.TypeOf(k.NewResponse()).Elem().Name())
		require.Equal(t, API{k.Kind, k.Min, k.Max}, APIs()[i])

		require.NoError(t, CheckVersion(k.Kind, k.Min))
		require.ErrorIs(t, CheckVersion(k.Kind, k.Max+1), ErrUnsupportedVersion)
		require.ErrorIs(t, CheckVersion(k.Kind, k.Min-1), ErrUnsupportedVersion)
	}
	require.ErrorIs(t, CheckVersion(0, 1), ErrUnsupportedVersion)
	require.Equal(t, "kind(99)", Kind(99).String())
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ cMin, cMax, sMin, sMax, want uint16 }{
		{1, 1, 1, 1, 1},
		{1, 3, 2, 5, 3},
		{2, 9, 1, 4, 4},
		{3, 3, 1, 9, 3},
		{1, 9, 4, 4, 4},
		{1, 2, 3, 4, 0},
		{3, 4, 1, 2, 0},
	} {
		got, err := Negotiate(c.cMin, c.cMax, c.sMin, c.sMax)
		require.Equal(t, c.want, got, c)
		if c.want == 0 {
			require.ErrorIs(t, err, ErrUnsupportedVersion)
			newer := "client"
			if c.cMax < c.sMin {
				newer = "broker"
			}
			require.True(t, strings.Contains(err.Error(), "the "+newer+" is newer"), err)
		} else {
			require.NoError(t, err)
		}
	}
	_, err := Negotiate(2, 1, 1, 1)
	require.ErrorIs(t, err, ErrInvalidRequest)
}

func TestAPIVersion(t *testing.T) {
	hello := HelloResponse{BrokerVersion: "9.9", APIs: []API{{KindProduce, 1, 7}, {KindFetch, 5, 7}, {200, 1, 1}}}
	v, err := hello.APIVersion(KindProduce)
	require.NoError(t, err)
	require.Equal(t, uint8(1), v)
	_, err = hello.APIVersion(KindFetch)
	require.ErrorIs(t, err, ErrUnsupportedVersion)
	_, err = hello.APIVersion(KindMetadata)
	require.ErrorContains(t, err, "does not serve Metadata")
	_, err = hello.APIVersion(200)
	require.ErrorIs(t, err, ErrUnsupportedVersion)
}

func TestHelloRefusesAnotherMagic(t *testing.T) {
	hello := HelloRequest{Magic: Magic, MaxVersion: 1}
	encoded := hello.AppendTo(nil)
	require.Equal(t, "SQTR", string(encoded[:4]))
	encoded[0] = 'X'
	require.ErrorContains(t, hello.Decode(encoded), "not a Sequitur client")
}

func TestUUIDString(t *testing.T) {
	u := UUID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, 0, 0, 0, 0, 1}
	require.Equal(t, "01234567-89ab-cdef-0000-000000000001", u.String())
	require.False(t, u.IsZero())
	require.True(t, UUID{}.IsZero())
	parsed, err := ParseUUID("01234567-89AB-cdef-0000-000000000001")
	require.NoError(t, err)
	require.Equal(t, u, parsed)
	for _, bad := range []string{"", "01234567", "0123456789abcdef0000000000000001", "01234567-89ab-cdef-0000-00000000000g", "01234567-89ab-cdef-0000-0000000000012"} {
		_, err := ParseUUID(bad)
		require.ErrorIs(t, err, ErrInvalidRequest, bad)
	}
	var plain [16]byte = u // stays assignable to what other packages use
	require.Equal(t, u, UUID(plain))
}
