// What the stock signaling server does for its pages, on the socket.io version that it uses: an array of registrations
// that is searched for shared groups, newest first and whole in the answer; offers and answers passed on with the
// sender's user object. Only what the load uses is here.
'use strict'
const http = require('http')
const socketio = require('socket.io')

const devices = [] // {deviceId, user, groups}, in the order of registration
const sockets = {} // deviceId -> socket

const server = http.createServer()
// The page's heartbeat is not part of the load, so silence is no reason to close.
const io = socketio(server, { pingTimeout: 600000, maxHttpBufferSize: 1e8, perMessageDeflate: false })

io.on('connection', socket => {
  let device = null
  socket.on('disconnect', () => {
    if (!device) return
    delete sockets[device.deviceId]
    const at = devices.indexOf(device)
    if (at >= 0) devices.splice(at, 1)
  })
  socket.on('register-device', (registration, done) => {
    if (device) {
      const at = devices.indexOf(device)
      if (at >= 0) devices.splice(at, 1)
    }
    device = registration
    devices.push(device)
    sockets[device.deviceId] = socket
    done(null, 'success')
  })
  socket.on('get-available-devices', done => {
    const shared = devices.filter(d => d !== device && d.groups.some(g => device.groups.some(own => own === g)))
    done(null, shared.reverse())
  })
  const relay = event => exchange => {
    exchange.user = device && device.user
    const target = sockets[exchange.toDevice]
    if (target) target.emit(event, exchange)
  }
  socket.on('offer', relay('offer'))
  socket.on('answer', relay('answer'))
})
server.listen(0, '127.0.0.1', 4096, () => console.log(server.address().port))
