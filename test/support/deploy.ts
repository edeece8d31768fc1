/** What stands in deploy/, for the tests that run it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import jsonPatch, { type Operation } from 'fast-json-patch'
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

/** What a container may ask of the kernel. */
interface Profile {
  readonly type: 'RuntimeDefault' | 'Localhost' | 'Unconfined'
  readonly localhostProfile?: string
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
    readonly seccompProfile?: Profile
    readonly appArmorProfile?: Profile
  }
  readonly volumeMounts: readonly {
    readonly name: string
    readonly mountPath: string
    readonly readOnly?: boolean
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

export type Labels = Record<string, string>

/** Where the Pods of a DaemonSet may run. */
export interface Placement {
  readonly nodeSelector?: Labels
  readonly affinity?: {
    readonly nodeAffinity: {
      readonly requiredDuringSchedulingIgnoredDuringExecution: {
        readonly nodeSelectorTerms: readonly {
          readonly matchExpressions: readonly { key: string; operator: string; values: readonly string[] }[]
        }[]
      }
    }
  }
}

/** Whether a DaemonSet runs on a node with these labels. */
export function runsOn({ nodeSelector = {}, affinity }: Placement, labels: Labels): boolean {
  const terms = affinity?.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
  return (
    Object.entries(nodeSelector).every(([key, value]) => labels[key] === value) &&
    (terms ?? [{ matchExpressions: [] }]).some(({ matchExpressions }) =>
      matchExpressions.every(({ key, operator, values }) => {
        if (operator !== 'NotIn') throw new Error(`operator ${operator}`)
        return !values.includes(labels[key] ?? '')
      }),
    )
  )
}

/** The command line of the unit of systemd. */
export function unitCommand(): string[] {
  const [, command] = /^ExecStart=(.+)$/m.exec(readFileSync('deploy/systemd/kube-ipvs.service', 'utf8'))!
  return command!.split(' ')
}

/** A kustomization, as far as ours use it. */
interface Kustomization {
  readonly resources: readonly string[]
  readonly images?: readonly { readonly name: string; readonly newName: string; readonly newTag: string }[]
  readonly components?: readonly string[]
  readonly patches?: readonly {
    readonly target: { readonly kind: string; readonly name: string }
    readonly patch: string
  }[]
}

const kustomizationOf = (folder: string): Kustomization =>
  parse(readFileSync(join(folder, 'kustomization.yaml'), 'utf8')) as Kustomization

/** What `kubectl kustomize` prints, as far as these kustomizations go; with components that are named beside its own. */
export function render(folder: string, ...more: readonly string[]): Manifest[] {
  const { resources, patches: own = [], components = [], images = [] } = kustomizationOf(folder)
  const objects = resources.flatMap((resource) =>
    resource.endsWith('.yaml') ? manifestsOf(join(folder, resource)) : render(join(folder, resource)),
  )
  const all = [...components.map((component) => join(folder, component)), ...more]
  const patches = [...all.flatMap((component) => kustomizationOf(component).patches ?? []), ...own]
  const patched = patches.reduce((current, { target, patch }) => {
    const isTarget = ({ kind, metadata }: Manifest): boolean =>
      kind === target.kind && metadata.name === target.name
    if (current.filter(isTarget).length !== 1) throw new Error(`a patch in ${folder} has no one target`)
    const parsed = parse(patch) as Operation[] | { $patch: 'delete' }
    if (!Array.isArray(parsed)) return current.filter((object) => !isTarget(object))
    const apply = (object: Manifest): Manifest =>
      jsonPatch.applyPatch(structuredClone(object), parsed, true).newDocument
    return current.map((object) => (isTarget(object) ? apply(object) : object))
  }, objects)
  return images.reduce((current, { name, newName, newTag }) => {
    const used = new RegExp(`"image":"${name}(:[^"]*)?"`, 'g')
    const json = JSON.stringify(current).replaceAll(used, `"image":"${newName}:${newTag}"`)
    return JSON.parse(json) as Manifest[]
  }, patched)
}
