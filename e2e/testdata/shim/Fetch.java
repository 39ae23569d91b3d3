import java.io.*;
import java.net.*;

/** Fetches a page and sends a datagram, over AF_INET6 sockets as Java does. */
class Fetch {
	public static void main(String[] args) throws Exception {
		InetAddress server = InetAddress.getByName(args[0]);
		try (Socket s = new Socket(server, 80)) {
			s.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes());
			System.out.println(new String(s.getInputStream().readAllBytes()) + " peer " + s.getRemoteSocketAddress());
		}
		try (DatagramSocket u = new DatagramSocket()) {
			u.setSoTimeout(20000);
			u.send(new DatagramPacket("datagram".getBytes(), 8, server, 7));
			DatagramPacket p = new DatagramPacket(new byte[100], 100);
			u.receive(p);
			System.out.println(new String(p.getData(), 0, p.getLength()) + " from " + p.getSocketAddress());
		}
	}
}
