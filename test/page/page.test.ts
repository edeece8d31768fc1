/** The status page in a browser: what people do with it, also without a mouse or without sight. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { AxeResults } from 'axe-core'
import { expect } from 'chai'
import type { Browser, Page } from 'playwright-core'
import { openBrowser } from '../support/browser.ts'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { StatusPage } from '../support/status-page.ts'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const WEB = '10.96.0.10:80/TCP'
const DNS = '10.96.0.20:53/UDP'

const pod = (address: string, name: string, namespace = 'shop'): object =>
  endpoint(address, { targetRef: { kind: 'Pod', name, namespace } })
const dns = service({
  ...{ name: 'kube-dns', namespace: 'kube-system', clusterIP: '10.96.0.20' },
  ports: [{ name: 'dns', port: 53, protocol: 'UDP' }],
})
const SERVICES = [service(), service({ name: 'api', clusterIP: '10.96.0.11' }), dns]
const SLICES = [
  slice({ endpoints: [pod('10.244.2.1', 'web-a'), pod('10.244.2.2', 'web-b')] as never }),
  slice({ service: 'api', endpoints: [pod('10.244.2.3', 'api-a')] as never }),
]

describe('the status page', () => {
  let browser: Browser
  let status: StatusPage
  let page: Page
  before(async () => {
    browser = await openBrowser()
  })
  after(() => browser.close())
  afterEach(async () => {
    await page.close()
    await status.close()
  })

  async function open(services = SERVICES, slices: readonly object[] = SLICES): Promise<void> {
    status = new StatusPage()
    await status.story.list(services, slices, [node()])
    const url = await status.serve()
    page = await browser.newPage()
    page.setDefaultTimeout(10_000)
    await page.goto(url)
    await page
      .getByRole('button', { name: /shop\// })
      .first()
      .waitFor()
  }
  /** The rows of the table of virtual servers: the text of their cells. */
  async function rows(): Promise<string[][]> {
    const region = page.getByRole('region', { name: 'Virtual servers' })
    const texts = await region.locator('tbody > tr:not(.detail)').all()
    return Promise.all(texts.map((row) => row.locator('td').allInnerTexts()))
  }
  const names = async (): Promise<string[]> => (await rows()).map(([, name]) => name!)
  const search = (text: string): Promise<void> => page.getByRole('searchbox', { name: 'Search' }).fill(text)
  const statusText = (): Promise<string> => page.getByRole('status').innerText()

  it('says which node this is, whether it is healthy, and how much is on it', async () => {
    await open()

    expect(await page.getByRole('heading', { level: 1 }).innerText()).to.equal('Node node-1')
    expect(await page.getByRole('banner').innerText()).to.contain('healthy')
    const counts = (await page.locator('dl').innerText()).replaceAll(/\s+/g, ' ')
    expect(counts).to.contain('Services 3').and.contain('Real servers 3')
    status.health = { isOk: false, reasons: ['KUBE-SERVICES is missing'], body: {} }
    await eventually(async () =>
      expect(await page.getByRole('banner').innerText()).to.contain('KUBE-SERVICES is missing'),
    )
  })

  for (const [what, text, found] of [
    ['a Service', 'shop/we', [WEB]],
    ['a virtual IP', '10.96.0.20', [DNS]],
    ['a virtual IP with its port and protocol', '10.96.0.10:80/tcp', [WEB]],
    ['a Pod', 'web-b', [WEB]],
    ['a Pod with its namespace', 'shop/api-a', ['10.96.0.11:80/TCP']],
    ['nothing that is there', 'nobody', []],
  ] as const)
    it(`finds ${what}, and says how many there are`, async () => {
      await open()
      await page.keyboard.press('/')
      await page.keyboard.type(text)

      await eventually(async () => expect(await names()).to.deep.equal(found))
      expect(await statusText()).to.equal(`${found.length} of 3 match`)
    })

  it('sorts by a head, and the other way round, and says so', async () => {
    await open()
    status.rates.set(DNS, { connections: 7 })
    status.rates.set(WEB, { connections: 9 })
    const head = page.getByRole('columnheader', { name: /Connections/ })
    const sorted = (): Promise<string | null> => head.getAttribute('aria-sort')
    expect(await sorted()).to.equal('none')

    await head.getByRole('button').click()
    await eventually(async () => expect((await names()).slice(0, 2)).to.deep.equal([WEB, DNS]))
    expect(await sorted()).to.equal('descending')
    await head.getByRole('button').click()
    await eventually(async () => expect((await names()).slice(1)).to.deep.equal([DNS, WEB]))
    expect(await sorted()).to.equal('ascending')
  })

  it('shows new rates and a new Service without being loaded again, but not while it is paused', async () => {
    await open()
    status.rates.set(WEB, { connections: 1_234, inBytes: 5_000_000 })
    await eventually(async () => {
      const [, web] = (await rows()).filter(([name]) => name!.includes('shop/'))
      expect(web!.join(' ')).to.contain('1.23k').and.contain('5.00M / 0')
    })
    await status.story.put(service({ name: 'new', clusterIP: '10.96.0.12' }))
    await eventually(async () => expect(await names()).to.include('10.96.0.12:80/TCP'))

    await page.getByRole('button', { name: 'Pause' }).click()
    const before = status.readings
    await page.waitForTimeout(3_000)
    expect(status.readings).to.equal(before)
    await page.getByRole('button', { name: 'Pause' }).click()
    await eventually(() => expect(status.readings).to.be.above(before))
  })

  it('opens a virtual server by keyboard alone: its Pods, weights and connections', async () => {
    await open()
    status.kernel.setConnections(WEB, '10.244.2.1:8080', { active: 41, inactive: 2 })
    const web = page.getByRole('button', { name: /shop\/web/ })
    expect(await web.getAttribute('aria-expanded')).to.equal('false')

    const focused = (): Promise<string> =>
      page.evaluate(`document.activeElement.matches('.expand') ? document.activeElement.innerText : ''`)
    for (let i = 0; i < 40 && !(await focused()).includes('shop/web'); i++) await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    const inside = page.getByRole('table', { name: `Real servers of ${WEB}` })
    await inside.waitFor()
    expect(await web.getAttribute('aria-expanded')).to.equal('true')
    expect((await inside.innerText()).replaceAll(/\s+/g, ' ')).to.contain(
      '10.244.2.1:8080 shop/web-a node-2 programmed 1 41 2',
    )
    await page.keyboard.press('Space')
    await inside.waitFor({ state: 'detached' })
  })

  it('shows what drains, and what was refused and repaired, with the reasons', async () => {
    await open()
    status.kernel.setConnections(WEB, '10.244.2.1:8080', { active: 1 })
    await status.story.put(slice({ endpoints: ['10.244.2.2'] }))
    await status.story.advance(10_000)
    const drains = page.getByRole('region', { name: /^Draining/ })
    await drains.waitFor()
    expect(await drains.innerText()).to.match(
      /10\.244\.2\.1:8080[^]*with its last connection, in \d+ s at most/,
    )
    status.kernel.state.virtualServers.delete(DNS as never)
    await status.story.advance(60_000)
    await status.story.put(
      service({ name: 'bad', clusterIP: '10.96.0.13', spec: { externalIPs: ['127.0.0.9'] } }),
    )

    await eventually(async () => {
      const journal = await page.getByRole('region', { name: /refusals/ }).innerText()
      expect(journal).to.match(/repaired\s+10\.96\.0\.20:53\/UDP\s+kube-system\/kube-dns/)
      expect(journal).to.match(/refused\s+external address\s+shop\/bad\s+127\.0\.0\.9/)
    })
  })

  it('says what is drained by hand, and that rates stand still', async () => {
    await open()
    expect(await page.getByText('Rates stand still').count()).to.equal(0)
    status.isEstimating = false
    status.story.current.drains = new Map([['shop/web-a', new Date()]])

    await page.getByText('Rates stand still, as the kernel counts nothing').waitFor()
    await page.getByText('Drained by hand, until "kube-ipvs undrain": shop/web-a.').waitFor()
  })

  it('says since when the node does not answer, and goes on by itself when it does', async () => {
    await open()
    status.goAway()
    const alert = page.getByRole('alert')
    await alert.waitFor()
    expect(await alert.innerText()).to.match(
      /^Not reachable since \d\d:\d\d:\d\d, showing data from \d\d:\d\d:\d\d/,
    )
    expect(await names()).to.have.length(3)

    await status.serve()
    await alert.waitFor({ state: 'detached' })
  })

  for (const colorScheme of ['light', 'dark'] as const)
    it(`can be used without sight, and read, in ${colorScheme} mode: axe finds nothing`, async () => {
      await open()
      await page.emulateMedia({ colorScheme })
      status.journal.note({ kind: 'refusal', object: WEB, service: 'shop/web', reason: 'no space' })
      await page.getByRole('button', { name: /shop\/web/ }).click()
      await page.getByText('no space').waitFor()

      await page.evaluate(AXE)
      const { violations, passes } = await page.evaluate<AxeResults>('axe.run()')
      expect(passes.length).to.be.above(20)
      expect(
        violations.map(({ id, impact, nodes }) => [id, impact, nodes.map(({ html }) => html)]),
      ).to.deep.equal([])
    })

  it('fits a narrow screen: only tables are wider, and scroll', async () => {
    await open()
    await page.setViewportSize({ width: 360, height: 640 })

    // Plots are drawn anew a moment later.
    await eventually(async () =>
      expect(await page.evaluate('document.documentElement.scrollWidth')).to.equal(360),
    )
  })

  it('asks for nothing from elsewhere, and breaks no rule of its own', async () => {
    await open()
    const asked: string[] = []
    const complaints: string[] = []
    page.on('request', (request) => asked.push(request.url()))
    page.on('console', (message) => complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(error.message))
    await page.reload()
    await page.getByRole('button', { name: /shop\/web/ }).click()
    await page.getByRole('table', { name: /Real servers of/ }).waitFor()

    expect(
      asked.filter((url) => !url.startsWith('http://127.0.0.1:') && !url.startsWith('data:')),
    ).to.deep.equal([])
    expect(complaints).to.deep.equal([])
  })

  it('goes on with 10,000 Services: answers are small, and nothing freezes', async () => {
    const many = Array.from({ length: 10_000 }, (_, i) => i)
    const ip = (i: number): string => `10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`
    await open(
      many.map((i) => service({ name: `s-${i}`, clusterIP: ip(i) })),
      many.map((i) =>
        slice({ service: `s-${i}`, endpoints: [pod(`10.244.${i >> 8}.${i & 255}`, `p-${i}`)] as never }),
      ),
    )
    for (const i of many) status.rates.set(`${ip(i)}:80/TCP`, { connections: i, inBytes: i * 1_000 })
    // Frames come sixty times a second, unless something holds the page up.
    await page.evaluate(`
      globalThis.longest = 0
      let last = performance.now()
      const look = (now) => {
        globalThis.longest = Math.max(globalThis.longest, now - last)
        last = now
        requestAnimationFrame(look)
      }
      requestAnimationFrame(look)
    `)
    const sizes: number[] = []
    page.on('response', (response) => {
      void response.body().then(
        ({ length }) => sizes.push(length),
        () => undefined,
      )
    })

    expect(await statusText()).to.equal('10,000 virtual servers')
    await page.getByRole('button', { name: /Connections/ }).click()
    // Where reading takes long it is done less often.
    await eventually(async () => expect((await names())[0]).to.equal(`${ip(9_999)}:80/TCP`), 45_000)
    await search('p-4321')
    await eventually(async () => expect(await statusText()).to.equal('1 of 10,000 match'))
    await search('')
    await page.getByRole('button', { name: 'Next' }).click()
    await eventually(async () =>
      expect(await page.getByRole('navigation').innerText()).to.contain('101 to 200'),
    )
    await page.waitForTimeout(4_500)
    expect(sizes.length).to.be.above(6)
    // Three answers are one refresh.
    expect(Math.max(...sizes)).to.be.below(100_000)
    expect(await page.evaluate('globalThis.longest')).to.be.within(1, 500)
  })
})
