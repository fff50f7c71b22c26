package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
)

const logPoll = 50 * time.Millisecond

// container is a process with a file system of its own. Its output is in folder + ".log".
type container struct {
	folder   string
	env      []string
	stdin    io.Writer       // nil when the pod asks for none
	ended    context.Context // done when the process has ended or was stopped
	stop     context.CancelFunc
	exitCode int32 // to be read after ended
}

// start runs what the pod asks for. The image is ignored: without command and args nothing runs,
// and the container counts as running until its pod is deleted.
func start(ctx context.Context, folder, ip string, spec v1.Container) (*container, error) {
	if err := os.RemoveAll(folder); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return nil, err
	}
	if err := exec.Command("cp", "-a", *rootfsDir, folder).Run(); err != nil {
		return nil, err
	}
	one := &container{
		folder: folder,
		env:    []string{"PATH=/bin", "HOME=/", "TERM=xterm", "POD_IP=" + ip},
	}
	one.ended, one.stop = context.WithCancel(ctx)
	for _, variable := range spec.Env {
		one.env = append(one.env, variable.Name+"="+variable.Value)
	}
	output, err := os.Create(folder + ".log")
	if err != nil {
		return nil, err
	}
	words := append(append([]string{}, spec.Command...), spec.Args...)
	if len(words) == 0 {
		return one, output.Close()
	}
	process := one.command(one.ended, words)
	process.Stdout, process.Stderr = output, output
	if spec.Stdin {
		if one.stdin, err = process.StdinPipe(); err != nil {
			return nil, err
		}
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	go func() {
		process.Wait()
		one.exitCode = int32(process.ProcessState.ExitCode() & 255)
		output.Close()
		one.stop()
	}()
	return one, nil
}

// command prepares a process inside the container. The shell looks the program up in the
// container's own PATH, and answers 127 or 126 as a container runtime would.
func (c *container) command(ctx context.Context, words []string) *exec.Cmd {
	process := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `exec "$0" "$@"`}, words...)...)
	process.Dir = "/"
	process.Env = c.env
	process.WaitDelay = time.Second
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Chroot: c.folder}
	// The whole process group goes, with what the command has started.
	process.Cancel = func() error { return syscall.Kill(-process.Process.Pid, syscall.SIGKILL) }
	return process
}

// copyLog writes the last `tail` lines (-1: all), and with follow what comes later.
func (c *container) copyLog(ctx context.Context, to io.Writer, follow bool, tail int) error {
	file, err := os.Open(c.folder + ".log")
	if err != nil {
		return err
	}
	defer file.Close()
	if tail >= 0 {
		if err := seekTail(file, tail); err != nil {
			return err
		}
	}
	for {
		hasEnded := c.ended.Err() != nil
		copied, err := io.Copy(to, file)
		if err != nil {
			return err
		}
		if flusher, ok := to.(http.Flusher); ok && copied > 0 {
			flusher.Flush()
		}
		// What was written before the end is copied by the round after it.
		if !follow || hasEnded || ctx.Err() != nil {
			return nil
		}
		time.Sleep(logPoll)
	}
}

func seekTail(file *os.File, tail int) error {
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(data), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	skipped := strings.Join(lines[:max(0, len(lines)-tail)], "")
	_, err = file.Seek(int64(len(skipped)), io.SeekStart)
	return err
}
