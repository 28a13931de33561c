// Package skas is under construction.
package skas
