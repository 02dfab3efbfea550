// Package cluster connects a broker with the others of its cluster: one
// listener for everything that brokers say to each other, requests and their
// answers, the way into a cluster, and the heartbeats.
//
// # Founding and joining
//
// Nothing decides twice who founds a cluster: a directory that is of no
// cluster asks every address that it was told. If any of them is in a cluster
// it registers there. If none is, and all have answered, the lowest node id
// founds and the others register with it. Otherwise it waits: a broker that
// does not answer may know a cluster.
package cluster
