/** Lines of /proc/net/ip_vs_conn, as net/netfilter/ipvs/ip_vs_conn.c prints them. */
import { expect } from 'chai'
import { parseConnection } from '../../../src/kernel/ipvs/connections.ts'

describe('parseConnection', () => {
  it('reads IPv4', () => {
    const line = 'TCP 0AF40102 9C56 0A60000A 0050 0AF40203 1F90 ESTABLISHED     893'
    expect(parseConnection(line)).to.deep.equal({
      protocol: 'TCP',
      client: { address: '10.244.1.2', port: 40_022 },
      virtualServer: { address: '10.96.0.10', port: 80 },
      realServer: { address: '10.244.2.3', port: 8080 },
      state: 'ESTABLISHED',
      expiresInSeconds: 893,
      isTemplate: false,
    })
  })

  it('reads IPv6', () => {
    const line =
      'UDP fd00:0010:0244:0001:0000:0000:0000:0002 9C56 fd00:0010:0096:0000:0000:0000:0000:0010 0035 fd00:0010:0244:0002:0000:0000:0000:0003 1F90 UDP             299'
    expect(parseConnection(line)).to.deep.include({
      client: { address: 'fd00:10:244:1::2', port: 40_022 },
      virtualServer: { address: 'fd00:10:96::10', port: 53 },
      realServer: { address: 'fd00:10:244:2::3', port: 8080 },
    })
  })

  it('tells what binds a client from connections', () => {
    const line = 'TCP 0AF40102 0000 0A60000A 0050 0AF40203 1F90 NONE            10798'
    expect(parseConnection(line)).to.deep.include({
      isTemplate: true,
      state: 'NONE',
      expiresInSeconds: 10_798,
    })
  })

  for (const line of [
    'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData',
    '',
    'IP  00000000 0000 00000001 0000 0AF40203 1F90 NONE            10798',
    'TCP 0AF40102',
  ])
    it(`leaves out "${line.slice(0, 12)}"`, () => {
      expect(parseConnection(line)).to.equal(undefined)
    })
})
