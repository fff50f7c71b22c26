package main

import (
	"context"
	"fmt"
	"log"
	"path/filepath"
	"strconv"
	"sync"

	v1 "k8s.io/api/core/v1"
	kerrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// node holds what runs here.
type node struct {
	client kubernetes.Interface
	mutex  sync.Mutex
	pods   map[string]*pod // by "namespace/name"
}

// pod is a started pod.
type pod struct {
	ip         string
	containers map[string]*container
}

// find gives a container, or an error in the real kubelet's words.
func (n *node) find(podID, name string) (*container, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if pod, ok := n.pods[podID]; ok {
		if found, ok := pod.containers[name]; ok {
			return found, nil
		}
	}
	return nil, fmt.Errorf("container not found (%q)", name)
}

func (n *node) address(podID string) (string, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if pod, ok := n.pods[podID]; ok {
		return pod.ip, nil
	}
	return "", fmt.Errorf("pod not found (%q)", podID)
}

// sync starts a pod that is here for the first time and ends one that is to be deleted.
func (n *node) sync(ctx context.Context, object *v1.Pod) {
	id := object.Namespace + "/" + object.Name
	if object.DeletionTimestamp != nil {
		n.end(ctx, id, object)
		return
	}
	if object.Status.Phase == v1.PodSucceeded || object.Status.Phase == v1.PodFailed {
		return
	}
	n.mutex.Lock()
	_, isKnown := n.pods[id]
	started := &pod{ip: loopbackFor(object.ResourceVersion), containers: map[string]*container{}}
	if !isKnown {
		for _, spec := range object.Spec.Containers {
			folder := filepath.Join(*podsDir, object.Namespace, object.Name, spec.Name)
			one, err := start(ctx, folder, started.ip, spec)
			if err != nil {
				log.Printf("container %s of %s: %v", spec.Name, id, err)
				continue
			}
			started.containers[spec.Name] = one
		}
		n.pods[id] = started
	}
	n.mutex.Unlock()
	if isKnown {
		return
	}
	n.report(ctx, object, started)
	if object.Spec.RestartPolicy == v1.RestartPolicyNever {
		go n.reportEnd(ctx, object, started)
	}
}

// end stops the processes and takes the object away: that is the kubelet's part of a deletion.
func (n *node) end(ctx context.Context, id string, object *v1.Pod) {
	n.mutex.Lock()
	ended := n.pods[id]
	delete(n.pods, id)
	n.mutex.Unlock()
	if ended != nil {
		for _, one := range ended.containers {
			one.stop()
		}
	}
	atOnce := int64(0)
	err := n.client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, meta.DeleteOptions{
		GracePeriodSeconds: &atOnce,
		Preconditions:      &meta.Preconditions{UID: &object.UID},
	})
	if err != nil && !kerrors.IsNotFound(err) {
		log.Printf("delete %s: %v", id, err)
	}
}

// loopbackFor gives every pod a loopback address of its own, so that two may use one port.
func loopbackFor(resourceVersion string) string {
	version, _ := strconv.Atoi(resourceVersion)
	return fmt.Sprintf("127.88.%d.%d", version/250%250, version%250+1)
}

func (n *node) report(ctx context.Context, object *v1.Pod, started *pod) {
	since, yes := meta.Now(), true
	reported := object.DeepCopy()
	status := &reported.Status
	status.Phase = v1.PodRunning
	status.PodIP, status.PodIPs = started.ip, []v1.PodIP{{IP: started.ip}}
	status.HostIP, status.HostIPs = "127.0.0.1", []v1.HostIP{{IP: "127.0.0.1"}}
	status.StartTime = &since
	status.Conditions = nil
	for _, kind := range []v1.PodConditionType{v1.PodScheduled, v1.PodInitialized, v1.ContainersReady, v1.PodReady} {
		status.Conditions = append(status.Conditions, v1.PodCondition{
			Type: kind, Status: v1.ConditionTrue, LastTransitionTime: since,
		})
	}
	status.ContainerStatuses = nil
	for _, spec := range object.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, v1.ContainerStatus{
			Name: spec.Name, Image: spec.Image, ImageID: "fake", ContainerID: "fake://" + spec.Name,
			Ready: true, Started: &yes,
			State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: since}},
		})
	}
	if _, err := n.client.CoreV1().Pods(object.Namespace).UpdateStatus(ctx, reported, meta.UpdateOptions{}); err != nil {
		log.Printf("status of %s/%s: %v", object.Namespace, object.Name, err)
	}
}

// reportEnd waits for all processes of a pod that is not restarted and tells how they ended.
func (n *node) reportEnd(ctx context.Context, object *v1.Pod, started *pod) {
	for _, one := range started.containers {
		<-one.ended.Done()
	}
	pods := n.client.CoreV1().Pods(object.Namespace)
	latest, err := pods.Get(ctx, object.Name, meta.GetOptions{})
	if err != nil || latest.UID != object.UID || latest.DeletionTimestamp != nil {
		return
	}
	now := meta.Now()
	latest.Status.Phase = v1.PodSucceeded
	for i := range latest.Status.Conditions {
		kind := latest.Status.Conditions[i].Type
		if kind == v1.PodReady || kind == v1.ContainersReady {
			latest.Status.Conditions[i].Status = v1.ConditionFalse
			latest.Status.Conditions[i].Reason = "PodCompleted"
		}
	}
	for i := range latest.Status.ContainerStatuses {
		status := &latest.Status.ContainerStatuses[i]
		ended := v1.ContainerStateTerminated{FinishedAt: now, Reason: "Completed"}
		if one, ok := started.containers[status.Name]; ok {
			ended.ExitCode = one.exitCode
		}
		if running := status.State.Running; running != nil {
			ended.StartedAt = running.StartedAt
		}
		if ended.ExitCode != 0 {
			ended.Reason = "Error"
			latest.Status.Phase = v1.PodFailed
		}
		no := false
		status.Ready, status.Started = false, &no
		status.State = v1.ContainerState{Terminated: &ended}
	}
	if _, err := pods.UpdateStatus(ctx, latest, meta.UpdateOptions{}); err != nil {
		log.Printf("end of %s/%s: %v", object.Namespace, object.Name, err)
	}
}
