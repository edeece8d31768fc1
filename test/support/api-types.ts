/** What the API's own types say of a manifest. */
import * as k8s from '@kubernetes/client-node'
import { expect } from 'chai'
import { DaemonSet } from 'kubernetes-models/apps/v1'
import { ClusterRole, ClusterRoleBinding } from 'kubernetes-models/rbac.authorization.k8s.io/v1'
import { ConfigMap, Pod, ServiceAccount } from 'kubernetes-models/v1'
import type { Manifest } from './deploy.ts'

interface Model {
  validate(): void
}
type ModelClass = new (object: never) => Model

const MODELS: Readonly<Record<string, ModelClass>> = {
  'v1 ConfigMap': ConfigMap,
  'v1 Pod': Pod,
  'v1 ServiceAccount': ServiceAccount,
  'apps/v1 DaemonSet': DaemonSet,
  'rbac.authorization.k8s.io/v1 ClusterRole': ClusterRole,
  'rbac.authorization.k8s.io/v1 ClusterRoleBinding': ClusterRoleBinding,
}

interface Attribute {
  readonly baseName: string
  readonly type: string
}
type Typed = Readonly<Record<string, { getAttributeTypeMap?: () => readonly Attribute[] }>>

/** Fields that the API does not have, at any depth. */
function unknownFields(value: unknown, type: string, path: string): string[] {
  const inner = /^Array<(.+)>$/.exec(type)?.[1] ?? /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1]
  if (inner !== undefined) {
    return Object.entries(value as object).flatMap(([key, item]) =>
      unknownFields(item, inner, `${path}.${key}`),
    )
  }
  const attributes = (k8s as unknown as Typed)[type]?.getAttributeTypeMap?.()
  if (attributes === undefined || typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, item]) => {
    const attribute = attributes.find(({ baseName }) => baseName === name)
    return attribute === undefined
      ? [`${path}.${name}`]
      : unknownFields(item, attribute.type, `${path}.${name}`)
  })
}

/** Fails where the API server would: a field that it does not have, or a value of another type. */
export function checkManifest(manifest: Manifest): void {
  const kind = `${manifest.apiVersion} ${manifest.kind}`
  const model = MODELS[kind]
  if (model === undefined) throw new Error(`there is no schema for ${kind}`)
  new model(manifest as never).validate()
  expect(unknownFields(manifest, `V1${manifest.kind}`, manifest.kind), 'unknown fields').to.deep.equal([])
}
