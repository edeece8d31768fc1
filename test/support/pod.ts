/** What the main container of the DaemonSet may do, made of the lab's own means. */
import { podCapabilities } from './deploy.ts'

/**
 * The root file system, sysctls and sysfs are read-only, as a container runtime gives them to a container that is not
 * privileged; of the capabilities there are those of the manifest, and no program gets more. The kernel spares it as
 * kubelet has it spare Pods that are critical for the node.
 */
const CONFINE = `
  mount -o remount,ro,bind /
  for folder in $1; do
    mount --bind $folder $folder
    mount -o remount,ro,bind $folder
  done
  shift
  echo -997 > /proc/self/oom_score_adj
  exec setpriv --no-new-privs --bounding-set "$0" "$@"`

/** A command that runs the one after it as the main container would; `readOnly` are mounts beside the root. */
export function confined(readOnly: readonly string[] = ['/proc/sys', '/sys']): string[] {
  const capabilities = ['-all', ...podCapabilities().map((name) => `+${name.toLowerCase()}`)].join(',')
  const shell = ['sh', '-ec', CONFINE, capabilities, readOnly.join(' ')]
  return ['unshare', '--mount', '--propagation', 'private', ...shell]
}

/** As a container runtime has it for a privileged container: the image's files alone, read-only, and the node's mounts. */
const IN_IMAGE = `
  mount --bind "$0" "$0"
  mount -o remount,ro,bind "$0"
  for folder in proc sys dev run tmp; do mount --rbind /$folder "$0/$folder"; done
  mount --bind /lib/modules "$0/usr/lib/modules"
  exec chroot "$0" /usr/local/bin/kube-ipvs "$@"`

/** How the program of an unpacked image is called, as kube-proxy's own DaemonSet would run it. */
export function inImage(root: string): string[] {
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec', IN_IMAGE, root]
}
