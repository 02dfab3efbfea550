// Package log stores partitions: one shared journal for durability, segments per partition for reading.
package log
