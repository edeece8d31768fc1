/** What stands in deploy/, for the tests that run it. */
import { readFileSync } from 'node:fs'
import { parse, parseAllDocuments } from 'yaml'

export type Manifest = Record<string, unknown> & {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

/** The objects of a manifest. */
export function manifestsOf(file: string): Manifest[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS() as Manifest)
}

export interface Container {
  readonly name: string
  readonly image: string
  readonly command: readonly string[]
  readonly args: readonly string[]
  readonly securityContext: {
    readonly privileged?: boolean
    readonly allowPrivilegeEscalation?: boolean
    readonly readOnlyRootFilesystem?: boolean
    readonly capabilities?: { readonly drop: readonly string[]; readonly add: readonly string[] }
  }
  readonly volumeMounts: readonly {
    readonly name: string
    readonly mountPath: string
    readonly subPath?: string
  }[]
}

export interface PodSpec {
  readonly hostNetwork: boolean
  readonly priorityClassName: string
  readonly serviceAccountName: string
  readonly nodeSelector: Readonly<Record<string, string>>
  readonly initContainers: readonly Container[]
  readonly containers: readonly Container[]
  readonly volumes: readonly { readonly name: string; readonly configMap?: { readonly name: string } }[]
}

/** The Pod of a DaemonSet. */
export function podSpecOf(daemonSet: Manifest): PodSpec {
  return (daemonSet as unknown as { spec: { template: { spec: PodSpec } } }).spec.template.spec
}

/** The Pod of the DaemonSet in deploy/base. */
export function podSpec(): PodSpec {
  return podSpecOf(manifestsOf('deploy/base/daemonset.yaml')[0]!)
}

/** The capabilities of its main container, without CAP_. */
export function podCapabilities(): readonly string[] {
  return podSpec().containers[0]!.securityContext.capabilities!.add
}

/** The command line of its main container, with kubelet's variables replaced. */
export function podCommand(variables: Readonly<Record<string, string>>): string[] {
  const { command, args } = podSpec().containers[0]!
  return [...command, ...args].map((word) =>
    word.replaceAll(/\$\((\w+)\)/g, (reference, name: string) => variables[name] ?? reference),
  )
}

/** The command line of the unit of systemd. */
export function unitCommand(): string[] {
  const [, command] = /^ExecStart=(.+)$/m.exec(readFileSync('deploy/systemd/kube-ipvs.service', 'utf8'))!
  return command!.split(' ')
}

/** A kustomization, as far as ours use it. */
export interface Kustomization {
  readonly resources: readonly string[]
  readonly patches?: readonly {
    readonly target: { readonly kind: string; readonly name: string }
    readonly patch: string
  }[]
}

export function kustomizationOf(folder: string): Kustomization {
  return parse(readFileSync(`${folder}/kustomization.yaml`, 'utf8')) as Kustomization
}
