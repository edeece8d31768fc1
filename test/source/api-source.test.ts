import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { loadKubeConfig, openApiClient } from '../../src/source/api-client.ts'
import { followApiServer } from '../../src/source/api-source.ts'
import { openPageReader } from '../../src/source/pages/page-reader.ts'
import { ApiServer } from '../support/api-server.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'

describe('followApiServer', () => {
  it('asks for what it needs, in lists and watches', async () => {
    const server = await ApiServer.start()
    const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    const file = join(folder, 'kubeconfig')
    writeFileSync(file, server.kubeconfig())
    const abort = new AbortController()
    const following = followApiServer({
      api: openApiClient(() => loadKubeConfig(file)),
      readPage: openPageReader(abort.signal),
      cluster: new Cluster('node-1', () => undefined),
      nodeName: 'node-1',
      log: recordingLog().log,
      signal: abort.signal,
    })
    await eventually(() => expect(server.watching).to.equal(4))
    abort.abort()
    await following
    await server.close()
    rmSync(folder, { recursive: true })

    const asked = server.requests.map(({ url }) => {
      const selectors = ['labelSelector', 'fieldSelector'].map((name) => url.searchParams.get(name) ?? 'all')
      return [url.pathname, ...selectors].join(' ')
    })
    const each = [
      '/api/v1/services !service.kubernetes.io/service-proxy-name all',
      '/apis/discovery.k8s.io/v1/endpointslices !service.kubernetes.io/headless all',
      '/api/v1/nodes all metadata.name=node-1',
      '/apis/networking.k8s.io/v1/servicecidrs all all',
    ]
    expect(asked).to.have.members([...each, ...each])
  })
})
