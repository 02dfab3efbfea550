// Package rewind takes back what a real disk would have lost in a power cut. A kill ends a process, but the kernel
// keeps what the process wrote; a power cut also loses what was not synced. To test the latter with real processes and
// real files, [Record] wraps a file system and notes in a side directory, before each change, how to undo it, and after
// each sync what can no longer be lost. Once the process is dead, [Undo] takes back a random part of what was not
// synced and leaves a state that a disk could have been left in by the rules of package vfs.
//
// The side directory holds "changes", one framed entry per change or sync in the order in which they happened, and
// "kept", hard links to files that were removed or replaced, by number. It is for tests: it grows with every change
// and is never trimmed.
//
// # What Undo may leave
//
// Of the data written to a file since its last sync, any subset of the 512-byte sectors. Writes past the page cache
// (vfs.FS.OpenDirect reporting direct) are never undone. Of names created, renamed or removed since their directory was
// synced, a prefix in the order in which they happened.
package rewind
